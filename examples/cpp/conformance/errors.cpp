#include "errors.h"

#include "google/rpc/code.pb.h"
#include "google/rpc/error_details.pb.h"

json error_object(const google::rpc::Status& status) {
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  google::rpc::RetryInfo retry;
  for (const auto& detail : status.details()) {
    // Each fills its message when the detail is of its type.
    detail.UnpackTo(&info) || detail.UnpackTo(&bad) || detail.UnpackTo(&retry);
  }
  json metadata = json::object();
  for (const auto& [key, value] : info.metadata()) metadata[key] = value;
  json violations = json::array();
  for (const auto& violation : bad.field_violations()) violations.push_back(violation.field());
  return {
      {"code", google::rpc::Code_Name(static_cast<google::rpc::Code>(status.code()))},
      {"message", status.message()},
      {"reason", info.reason()},
      {"domain", info.domain()},
      {"metadata", metadata},
      {"violations", violations},
      {"retryMs", retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1'000'000},
  };
}

json error_object(const grpc::Status& status) {
  google::rpc::Status found;
  if (!found.ParseFromString(status.error_details()) || found.code() == 0) {
    found.Clear();
    found.set_code(status.error_code());
    found.set_message(status.error_message());
  }
  return error_object(found);
}
