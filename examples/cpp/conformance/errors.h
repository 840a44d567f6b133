// Error objects, made from statuses.
#pragma once

#include <grpcpp/support/status.h>

#include "google/rpc/status.pb.h"
#include "matching.h"

// Makes the error object of a google.rpc.Status.
json error_object(const google::rpc::Status& status);

// Makes the error object of a failed call.
json error_object(const grpc::Status& status);
