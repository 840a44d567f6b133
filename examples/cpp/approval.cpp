// Starts a run of the approval workflow, follows its events, answers its question, prints the result.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>
#include <nlohmann/json.hpp>

#include "stepwire/v1/run_service.grpc.pb.h"

namespace sw = stepwire::v1;
using nlohmann::json;

namespace {

// Payloads hold JSON documents; the encoding `json` is exact.
sw::Payload payload(const json& document) {
  sw::Payload payload;
  payload.set_json(document.dump());
  return payload;
}

json document(const sw::Payload& payload) {
  return payload.has_json() ? json::parse(payload.json()) : json();
}

sw::ConverseRequest start() {
  sw::ConverseRequest frame;
  auto* request = frame.mutable_start()->mutable_request();
  request->set_workflow("approval");
  *request->mutable_input() = payload({{"who", "ada"}, {"amount", 120.5}, {"purpose", "a keyboard"}});
  frame.mutable_start()->mutable_options()->set_encoding(sw::PAYLOAD_ENCODING_JSON);
  return frame;
}

sw::ConverseRequest answer(const sw::LogEntry& question) {
  sw::ConverseRequest frame;
  auto* send = frame.mutable_send();
  // Makes it safe to send again after a lost connection.
  send->set_request_id("answer-" + std::to_string(question.sequence()));
  send->mutable_event()->set_type("ApprovalAnswer");
  *send->mutable_event()->mutable_payload() = payload(
      {{"expense_id", document(question.payload()).at("expense_id")}, {"verdict", "approve"}, {"by", "grace"}});
  return frame;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string address = argc > 1 ? argv[1] : "127.0.0.1:50051";
  const auto runs = sw::RunService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));

  // Converse: frames go out with Write, the log and the answers come in with Read.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto stream = runs->Converse(&context);
  bool writable = stream->Write(start());

  sw::ConverseResponse frame;
  while (stream->Read(&frame)) {
    if (frame.has_opened()) {
      std::printf("run %s\n", frame.opened().run().run_id().c_str());
    } else if (frame.has_events()) {
      for (const auto& entry : frame.events().entries()) {
        std::printf("%3lld %s %s\n", static_cast<long long>(entry.sequence()), entry.type().c_str(),
                    document(entry.payload()).dump().c_str());
        if (writable && entry.role() == sw::EVENT_ROLE_INPUT_REQUIRED) writable = stream->Write(answer(entry));
      }
    } else if (frame.has_send_result() && frame.send_result().has_error()) {
      std::fprintf(stderr, "the answer was refused: %s\n", frame.send_result().error().message().c_str());
      return 1;
    } else if (frame.has_finished()) {
      const auto& outcome = frame.finished().outcome();
      std::printf("%s: %s\n", sw::RunStatus_Name(outcome.status()).c_str(), document(outcome.result()).dump().c_str());
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "error %d: %s\n", status.error_code(), status.error_message().c_str());
    return 1;
  }
  return 0;
}
