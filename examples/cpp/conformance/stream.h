// StreamEvents and Converse as items.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include <grpcpp/grpcpp.h>

#include "matching.h"
#include "stepwire/v1/run_service.grpc.pb.h"

// An open stream; destroying it cancels the call.
class Stream {
 public:
  // Does a step that opens a stream.
  Stream(const std::shared_ptr<grpc::Channel>& channel, const json& step);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void send(const json& frame);
  void half_close();

  // Returns the next item, or nothing at the stream's end, whose status end() then tells.
  std::optional<json> next();
  const grpc::Status& end() const { return end_; }

 private:
  bool read();
  void take_in(const stepwire::v1::StreamEventsResponse& frame);
  void take_in(const stepwire::v1::ConverseResponse& frame);
  void take_batch(const stepwire::v1::EventBatch& batch);

  grpc::ClientContext context_;
  std::unique_ptr<stepwire::v1::RunService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<stepwire::v1::StreamEventsResponse>> reader_;
  std::unique_ptr<grpc::ClientReaderWriter<stepwire::v1::ConverseRequest, stepwire::v1::ConverseResponse>> talk_;
  std::deque<json> items_;
  std::int64_t cursor_ = 0;
  bool ended_ = false;
  grpc::Status end_;
};
