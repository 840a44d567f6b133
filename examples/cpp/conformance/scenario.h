// A scenario of the table.
#pragma once

#include <memory>

#include <grpcpp/grpcpp.h>

#include "matching.h"

// Runs a scenario; returns its line.
json run_scenario(const json& scenario, const std::shared_ptr<grpc::Channel>& channel, const json& variables);
