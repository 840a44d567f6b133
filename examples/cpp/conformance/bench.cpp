#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "stepwire/v1/run_service.grpc.pb.h"

namespace sw = stepwire::v1;

namespace {

constexpr std::chrono::minutes kDeadline(5);

// Reads the stream of a run to its end; returns how many entries it had.
std::int64_t read_stream(sw::RunService::Stub& stub, const std::string& run_id) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  sw::StreamEventsRequest request;
  request.set_run_id(run_id);
  request.mutable_options()->set_encoding(sw::PAYLOAD_ENCODING_JSON);
  const auto reader = stub.StreamEvents(&context, request);
  std::int64_t entries = 0;
  sw::StreamEventsResponse frame;
  while (reader->Read(&frame)) entries += frame.events().entries_size();
  const grpc::Status status = reader->Finish();
  if (!status.ok()) throw std::runtime_error("the stream failed: " + status.error_message());
  return entries;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

json bench_stream(const std::string& stepwire, const std::string& raw, const std::string& run_id, int rounds) {
  std::vector<std::unique_ptr<sw::RunService::Stub>> stubs;
  for (const std::string& address : {stepwire, raw}) {
    stubs.push_back(sw::RunService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())));
  }
  std::vector<std::vector<double>> seconds(stubs.size());
  std::int64_t entries = -1;
  for (int round = 0; round <= rounds; ++round) {
    for (std::size_t side = 0; side < stubs.size(); ++side) {
      const auto begin = std::chrono::steady_clock::now();
      const std::int64_t found = read_stream(*stubs[side], run_id);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      if (entries >= 0 && found != entries) throw std::runtime_error("the streams differ in their number of entries");
      entries = found;
      if (round > 0) seconds[side].push_back(took.count());
    }
  }
  return {{"events", entries}, {"stepwire", median(seconds[0])}, {"raw", median(seconds[1])}};
}
