// When a stream is opened again: which errors are a lost connection, and how long a server may be silent.

#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "stepwire/v1/run_service.pb.h"

// Says whether a call that ended with this status was cut: its connection is lost, and another one may help. Errors of
// the server carry details. A status without any comes from a proxy or from gRPC itself.
inline bool lost(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:  // the stream ended before the run did
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
      return true;
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return status.error_details().empty();
    default:
      return false;
  }
}

// Cancels a stream whose server sends nothing, not even heartbeats. A proxy may keep the connection of a dead server
// open, and answer pings, for ever.
class Silence {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Silence(grpc::ClientContext& context, std::chrono::milliseconds& interval)
      : context_(context), interval_(interval), thread_([this] { watch(); }) {}

  ~Silence() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  // Begins to count: two heartbeats may be missing, and the next one may be late.
  void wait() {
    const auto late = std::max<std::chrono::milliseconds>(std::chrono::seconds(2), interval_ / 3);
    set(Clock::now() + 2 * interval_ + late);
  }

  // Stops the count. What the caller does with a frame takes as long as it takes.
  void heard() { set(Clock::time_point::max()); }

  // Learns when the next heartbeat comes.
  void take(const stepwire::v1::Heartbeat& beat) {
    const std::chrono::milliseconds interval(beat.interval().seconds() * 1000 + beat.interval().nanos() / 1000000);
    if (interval.count() > 0) interval_ = interval;
  }

 private:
  void set(Clock::time_point deadline) {
    {
      const std::lock_guard lock(mutex_);
      deadline_ = deadline;
    }
    changed_.notify_one();
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!over_) {
      if (deadline_ == Clock::time_point::max()) {
        changed_.wait(lock);
      } else if (changed_.wait_until(lock, deadline_) == std::cv_status::timeout && Clock::now() >= deadline_) {
        context_.TryCancel();
        deadline_ = Clock::time_point::max();
      }
    }
  }

  grpc::ClientContext& context_;
  std::chrono::milliseconds& interval_;  // of all connections
  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool over_ = false;
  std::thread thread_;
};
