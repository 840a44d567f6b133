#include "methods.h"

#include <chrono>
#include <functional>
#include <future>
#include <map>

#include <google/protobuf/util/json_util.h>
#include <grpcpp/generic/generic_stub.h>

#include "stepwire/v1/run_service.grpc.pb.h"
#include "stepwire/v1/schedule_service.grpc.pb.h"
#include "stepwire/v1/snapshot_service.grpc.pb.h"
#include "stepwire/v1/state_service.grpc.pb.h"
#include "stepwire/v1/workflow_service.grpc.pb.h"

namespace sw = stepwire::v1;
namespace util = google::protobuf::util;

namespace {

using Channel = std::shared_ptr<grpc::Channel>;
using Method = std::function<grpc::Status(const Channel&, grpc::ClientContext*, const json&, json*)>;

template <typename Service, typename Request, typename Response>
Method unary(grpc::Status (Service::Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
  return [method](const Channel& channel, grpc::ClientContext* context, const json& document, json* answer) {
    Request request;
    from_json_mapping(document, &request);
    Response response;
    const auto stub = Service::NewStub(channel);
    const grpc::Status status = (stub.get()->*method)(context, request, &response);
    if (status.ok()) *answer = to_json(response);
    return status;
  };
}

#define METHOD(SERVICE, NAME)                                                                                  \
  {                                                                                                            \
    #SERVICE "." #NAME, unary<sw::SERVICE, sw::NAME##Request, sw::NAME##Response>(&sw::SERVICE::Stub::NAME)    \
  }

const std::map<std::string, Method>& methods() {
  static const std::map<std::string, Method> found = {
      METHOD(RunService, StartRun),         METHOD(RunService, GetRun),
      METHOD(RunService, ListRuns),         METHOD(RunService, WaitRun),
      METHOD(RunService, CancelRun),        METHOD(RunService, DeleteRun),
      METHOD(RunService, RetryRun),         METHOD(RunService, PauseRun),
      METHOD(RunService, ResumeRun),
      METHOD(RunService, SendEvent),        METHOD(RunService, PublishEvent),
      METHOD(RunService, WaitForEvent),     METHOD(StateService, GetState),
      METHOD(StateService, SetState),       METHOD(StateService, UnsetState),
      METHOD(StateService, ReplaceState),   METHOD(SnapshotService, GetSnapshot),
      METHOD(SnapshotService, ListSnapshots), METHOD(WorkflowService, ListWorkflows),
      METHOD(WorkflowService, GetWorkflow),
      METHOD(ScheduleService, CreateSchedule), METHOD(ScheduleService, GetSchedule),
      METHOD(ScheduleService, ListSchedules), METHOD(ScheduleService, UpdateSchedule),
      METHOD(ScheduleService, PauseSchedule), METHOD(ScheduleService, ResumeSchedule),
      METHOD(ScheduleService, TriggerSchedule), METHOD(ScheduleService, DeleteSchedule),
      METHOD(ScheduleService, BackfillSchedule),
  };
  return found;
}

}  // namespace

json to_json(const google::protobuf::Message& message) {
  std::string text;
  const auto status = util::MessageToJsonString(message, &text);
  if (!status.ok()) throw Mismatch("the message is not JSON: " + status.ToString());
  return json::parse(text);
}

void from_json_mapping(const json& document, google::protobuf::Message* message) {
  const auto status = util::JsonStringToMessage(dumped(document), message);
  if (!status.ok()) throw Mismatch("the table's message is not one: " + status.ToString());
}

void prepare(grpc::ClientContext* context, const json& step, int default_ms) {
  const std::chrono::milliseconds limit(step.value("deadline_ms", default_ms));
  context->set_deadline(std::chrono::system_clock::now() + limit);
  const json headers = step.value("headers", json::object());
  for (const auto& [name, value] : headers.items()) context->AddMetadata(name, value.get<std::string>());
}

grpc::Status call(const Channel& channel, grpc::ClientContext* context, const std::string& name, const json& request,
                  json* response) {
  const auto method = methods().find(name);
  if (method == methods().end()) throw Mismatch("there is no unary method " + name);
  return method->second(channel, context, request, response);
}

grpc::Status call_raw(const Channel& channel, grpc::ClientContext* context, const std::string& name,
                      const std::string& bytes) {
  std::string path = "/stepwire.v1." + name;
  path[path.rfind('.')] = '/';
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  grpc::GenericStub(channel).UnaryCall(context, path, grpc::StubOptions(), &request, &response,
                                       [&done](grpc::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}
