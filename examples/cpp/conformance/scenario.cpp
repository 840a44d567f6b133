#include "scenario.h"

#include <map>
#include <optional>
#include <string>

#include "errors.h"
#include "methods.h"
#include "stream.h"

namespace {

constexpr int kDeadlineMs = 15'000;

std::string decoded(const std::string& base64) {
  static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned value = 0;
  int bits = 0;
  for (const char letter : base64) {
    const std::size_t six = alphabet.find(letter);
    if (six == std::string::npos) break;  // the padding
    value = (value << 6U) | static_cast<unsigned>(six);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes += static_cast<char>((value >> static_cast<unsigned>(bits)) & 0xFFU);
    }
  }
  return bytes;
}

// A scenario under way: its variables and its streams.
class Run {
 public:
  Run(const std::shared_ptr<grpc::Channel>& channel, json variables)
      : channel_(channel), variables_(std::move(variables)) {}

  const json& last_error() const { return last_error_; }

  void step(const json& table) {
    json rest = table;
    const json save = table.value("save", json::object());
    rest.erase("save");
    const json document = perform(substitute(rest, variables_));
    for (const auto& [name, path] : save.items()) variables_[name] = at_path(document, path.get<std::string>());
  }

 private:
  json perform(const json& step) {
    const std::string name = step.value("stream", "main");
    if (step.contains("call")) return call_step(step);
    if (step.contains("open")) {
      streams_.erase(name);
      streams_.emplace(std::piecewise_construct, std::forward_as_tuple(name), std::forward_as_tuple(channel_, step));
    } else if (step.contains("cut")) {
      streams_.erase(name);
    } else if (step.contains("send")) {
      stream(name).send(step.at("send"));
    } else if (step.contains("half_close")) {
      stream(name).half_close();
    } else if (step.contains("receive")) {
      json item;
      for (const json& pattern : step.at("receive")) {
        item = take(stream(name));
        check(pattern, &item, "the item");
      }
      return item;
    } else if (step.contains("until")) {
      return take_until(stream(name), step.at("until"));
    } else if (step.contains("end")) {
      end(stream(name), step.contains("error") ? &step.at("error") : nullptr);
    } else {
      throw Mismatch("the step has no verb");
    }
    return nullptr;
  }

  json call_step(const json& step) {
    const std::string name = step.at("call");
    grpc::ClientContext context;
    prepare(&context, step, kDeadlineMs);
    json document = json::object();
    const grpc::Status status =
        step.contains("raw") ? call_raw(channel_, &context, name, decoded(step.at("raw").get<std::string>()))
                             : call(channel_, &context, name, step.value("request", json::object()), &document);
    if (!status.ok()) {
      const json& found = met(error_object(status));
      if (!step.contains("error")) throw Mismatch("the call failed: " + dumped(found));
      check(step.at("error"), &found, "the error");
      return found;
    }
    if (step.contains("error")) throw Mismatch("the call succeeded");
    check(step.value("expect", json::object()), &document, "the response");
    return document;
  }

  json take(Stream& stream) {
    std::optional<json> item = stream.next();
    if (!item) {
      if (stream.end().ok()) throw Mismatch("the stream ended");
      throw Mismatch("the stream failed: " + dumped(met(error_object(stream.end()))));
    }
    const json::json_pointer error("/sendResult/error");
    if (item->contains(error)) met(item->at(error));
    return *item;
  }

  json take_until(Stream& stream, const json& pattern) {
    while (true) {
      const json item = take(stream);
      try {
        check(pattern, &item, "the item");
        return item;
      } catch (const Mismatch&) {
        // Another item may match.
      }
    }
  }

  void end(Stream& stream, const json* expected) {
    const std::optional<json> item = stream.next();
    if (item) throw Mismatch("the stream goes on with " + dumped(*item));
    if (stream.end().ok()) {
      if (expected != nullptr) throw Mismatch("the stream ended without an error");
      return;
    }
    const json& found = met(error_object(stream.end()));
    if (expected == nullptr) throw Mismatch("the stream failed: " + dumped(found));
    check(*expected, &found, "the error");
  }

  Stream& stream(const std::string& name) {
    const auto found = streams_.find(name);
    if (found == streams_.end()) throw Mismatch("no stream " + name + " is open");
    return found->second;
  }

  const json& met(json error) { return last_error_ = std::move(error); }

  std::shared_ptr<grpc::Channel> channel_;
  json variables_;
  std::map<std::string, Stream> streams_;
  json last_error_ = json::object();
};

}  // namespace

json run_scenario(const json& scenario, const std::shared_ptr<grpc::Channel>& channel, const json& variables) {
  Run run(channel, variables);
  std::string detail;
  int number = 0;
  for (const json& step : scenario.at("steps")) {
    try {
      run.step(step);
    } catch (const Mismatch& mismatch) {
      detail = "step " + std::to_string(number) + ": " + std::string(mismatch.what()).substr(0, 500);
      break;
    }
    ++number;
  }
  return {
      {"scenario", scenario.at("name")},
      {"ok", detail.empty()},
      {"detail", detail},
      {"code", run.last_error().value("code", "")},
      {"reason", run.last_error().value("reason", "")},
  };
}
