#include "stream.h"

#include "errors.h"
#include "methods.h"

namespace sw = stepwire::v1;

namespace {

constexpr int kDeadlineMs = 30'000;

}  // namespace

Stream::Stream(const std::shared_ptr<grpc::Channel>& channel, const json& step)
    : stub_(sw::RunService::NewStub(channel)) {
  const std::string name = step.at("open");
  const json request = step.value("request", json::object());
  prepare(&context_, step, kDeadlineMs);
  if (name == "RunService.StreamEvents") {
    sw::StreamEventsRequest message;
    from_json_mapping(request, &message);
    cursor_ = message.after_sequence();
    reader_ = stub_->StreamEvents(&context_, message);
  } else if (name == "RunService.Converse") {
    sw::ConverseRequest first;
    from_json_mapping(request, &first);
    cursor_ = first.attach().after_sequence();
    talk_ = stub_->Converse(&context_);
    talk_->Write(first);  // when it fails, the next read tells why
  } else {
    throw Mismatch("there is no stream " + name);
  }
}

Stream::~Stream() {
  context_.TryCancel();
  items_.clear();
  while (!ended_ && read()) {
  }
}

void Stream::send(const json& document) {
  sw::ConverseRequest frame;
  from_json_mapping(document, &frame);
  if (!talk_ || !talk_->Write(frame)) throw Mismatch("the stream takes no frames");
}

void Stream::half_close() {
  if (!talk_) throw Mismatch("the stream takes no frames");
  talk_->WritesDone();
}

std::optional<json> Stream::next() {
  while (items_.empty()) {
    if (ended_ || !read()) return std::nullopt;
  }
  json item = std::move(items_.front());
  items_.pop_front();
  return item;
}

bool Stream::read() {
  if (reader_) {
    sw::StreamEventsResponse frame;
    if (reader_->Read(&frame)) {
      take_in(frame);
      return true;
    }
    end_ = reader_->Finish();
  } else if (talk_) {
    sw::ConverseResponse frame;
    if (talk_->Read(&frame)) {
      take_in(frame);
      return true;
    }
    end_ = talk_->Finish();
  }
  ended_ = true;
  return false;
}

void Stream::take_in(const sw::StreamEventsResponse& frame) {
  if (frame.has_events()) take_batch(frame.events());
  if (frame.has_finished()) items_.push_back({{"finished", to_json(frame.finished())}});
}

void Stream::take_in(const sw::ConverseResponse& frame) {
  if (frame.has_opened()) items_.push_back({{"opened", to_json(frame.opened())}});
  if (frame.has_events()) take_batch(frame.events());
  if (frame.has_finished()) items_.push_back({{"finished", to_json(frame.finished())}});
  if (frame.has_send_result()) {
    sw::ConverseSendResult result = frame.send_result();
    result.clear_error();
    json item = to_json(result);
    if (frame.send_result().has_error()) item["error"] = error_object(frame.send_result().error());
    items_.push_back({{"sendResult", item}});
  }
}

void Stream::take_batch(const sw::EventBatch& batch) {
  const std::int64_t from = batch.from_sequence();
  const std::int64_t to = batch.to_sequence();
  if (from != cursor_ + 1 || to < from) {
    throw Mismatch("a batch covers " + std::to_string(from) + " to " + std::to_string(to) + " after " +
                   std::to_string(cursor_));
  }
  std::int64_t last = from - 1;
  for (const auto& entry : batch.entries()) {
    if (entry.sequence() <= last || entry.sequence() > to) {
      throw Mismatch("entry " + std::to_string(entry.sequence()) + " is out of order");
    }
    last = entry.sequence();
    items_.push_back({{"entry", to_json(entry)}});
  }
  cursor_ = to;
}
