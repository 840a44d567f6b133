// The unary methods of the stubs by the names of the table, and messages as JSON.
#pragma once

#include <memory>
#include <string>

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include "matching.h"

// Writes a message in protobuf's JSON mapping.
json to_json(const google::protobuf::Message& message);

// Reads a message from protobuf's JSON mapping. Mismatch when it is not one.
void from_json_mapping(const json& document, google::protobuf::Message* message);

// Gives a call its deadline, `deadline_ms` of the step or the default, and the step's `headers`.
void prepare(grpc::ClientContext* context, const json& step, int default_ms);

// Calls Service.Method; fills the response when it succeeds. Mismatch when there is no such method.
grpc::Status call(const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context, const std::string& name,
                  const json& request, json* response);

// Calls any method with bytes that need not be a message.
grpc::Status call_raw(const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context,
                      const std::string& name, const std::string& bytes);
