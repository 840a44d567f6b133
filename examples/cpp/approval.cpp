// Starts a run of the approval workflow, follows its events, answers its question, prints the result. With several
// addresses, separated by commas, it goes on with the next one when one fails.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <nlohmann/json.hpp>

#include "reconnect.h"
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

// A conversation over as many connections as it takes.
struct Talk {
  std::string request_id;                         // makes the start safe to repeat
  std::string run_id;                             // empty until the server has opened the conversation
  std::int64_t cursor = 0;                        // what was seen: the next connection goes on after it
  std::optional<sw::ConverseRequest> answer;      // one without a result yet; sent again, it counts once
  std::chrono::milliseconds interval{15'000};     // of heartbeats: the server's default, until it says otherwise
  std::optional<sw::Outcome> outcome;
  std::string refusal;

  // The first frame of a connection.
  sw::ConverseRequest opening() const {
    sw::ConverseRequest frame;
    if (!run_id.empty()) {
      frame.mutable_attach()->set_run_id(run_id);
      frame.mutable_attach()->set_after_sequence(cursor);
      frame.mutable_attach()->mutable_options()->set_encoding(sw::PAYLOAD_ENCODING_JSON);
      return frame;
    }
    auto* request = frame.mutable_start()->mutable_request();
    request->set_workflow("approval");
    request->set_request_id(request_id);
    *request->mutable_input() = payload({{"who", "ada"}, {"amount", 120.5}, {"purpose", "a keyboard"}});
    frame.mutable_start()->mutable_options()->set_encoding(sw::PAYLOAD_ENCODING_JSON);
    return frame;
  }

  // Prints an entry, and answers it when it is a question.
  void see(const sw::LogEntry& entry) {
    const json data = document(entry.payload());
    std::printf("%3lld %s %s\n", static_cast<long long>(entry.sequence()), entry.type().c_str(), data.dump().c_str());
    if (entry.role() != sw::EVENT_ROLE_INPUT_REQUIRED) return;
    auto* send = answer.emplace().mutable_send();
    send->set_request_id("answer-" + std::to_string(entry.sequence()));
    send->mutable_event()->set_type("ApprovalAnswer");
    *send->mutable_event()->mutable_payload() =
        payload({{"expense_id", data.at("expense_id")}, {"verdict", "approve"}, {"by", "grace"}});
  }

  void take(const sw::ConverseResponse& frame, Silence& silence) {
    if (frame.has_opened() && run_id.empty()) {
      run_id = frame.opened().run().run_id();
      std::printf("run %s\n", run_id.c_str());
    } else if (frame.has_events()) {
      for (const auto& entry : frame.events().entries()) see(entry);
      cursor = frame.events().to_sequence();
    } else if (frame.has_heartbeat()) {
      silence.take(frame.heartbeat());
    } else if (frame.has_send_result()) {
      answer.reset();
      if (frame.send_result().has_error()) refusal = frame.send_result().error().message();
    } else if (frame.has_finished()) {
      outcome = frame.finished().outcome();
    }
  }

  // Serves one connection until it ends or the run does.
  grpc::Status connect(sw::RunService::Stub& runs) {
    grpc::ClientContext context;
    // Frames go out with Write, the log and the answers come in with Read.
    const auto stream = runs.Converse(&context);
    bool writable = stream->Write(opening());
    if (answer) writable = writable && stream->Write(*answer);
    Silence silence(context, interval);
    for (;;) {
      sw::ConverseResponse frame;
      silence.wait();
      const bool read = stream->Read(&frame);
      if (!read) return stream->Finish();  // silence goes on to count: a status that a proxy lost never comes
      silence.heard();
      take(frame, silence);
      if (outcome || !refusal.empty()) {
        context.TryCancel();
        return stream->Finish();
      }
      if (frame.has_events() && answer && writable) writable = stream->Write(*answer);
    }
  }
};

// Returns a channel that finds a server out which hangs, while it connects or by pings.
std::shared_ptr<grpc::Channel> open(const std::string& address) {
  grpc::ChannelArguments settings;
  settings.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3000);  // in spite of its name the time to connect
  settings.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  settings.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 3000);
  settings.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  settings.SetInt("grpc.http2.ping_timeout_ms", 5000);  // newer versions keep to this one
  settings.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), settings);
}

}  // namespace

int main(int argc, char** argv) {
  std::istringstream addresses(argc > 1 ? argv[1] : "127.0.0.1:50051");
  std::vector<std::unique_ptr<sw::RunService::Stub>> replicas;
  for (std::string address; std::getline(addresses, address, ',');) {
    replicas.push_back(sw::RunService::NewStub(open(address)));
  }
  Talk talk;
  talk.request_id = "start-" + std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  for (std::size_t attempt = 0;; ++attempt) {
    const grpc::Status status = talk.connect(*replicas[attempt % replicas.size()]);
    if (talk.outcome) break;
    if (!talk.refusal.empty()) {
      std::fprintf(stderr, "the answer was refused: %s\n", talk.refusal.c_str());
      return 1;
    }
    if (!lost(status)) {
      std::fprintf(stderr, "error %d: %s\n", status.error_code(), status.error_message().c_str());
      return 1;
    }
    std::fprintf(stderr, "connection lost (%s), going on after sequence %lld\n", status.error_message().c_str(),
                 static_cast<long long>(talk.cursor));
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  std::printf("%s: %s\n", sw::RunStatus_Name(talk.outcome->status()).c_str(),
              document(talk.outcome->result()).dump().c_str());
  return 0;
}
