//! The stubs by the names of the table, and their messages as JSON.

use std::{sync::LazyLock, time::Duration};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use stepwire_example::v1::{
    run_service_client::RunServiceClient, schedule_service_client::ScheduleServiceClient,
    snapshot_service_client::SnapshotServiceClient, state_service_client::StateServiceClient,
    workflow_service_client::WorkflowServiceClient,
};
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, MetadataMap},
    transport::Channel,
};

use crate::matching::Mismatch;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(stepwire_example::DESCRIPTORS).expect("the generated descriptors"));

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("stepwire.v1.{name}")).expect("a message of the contract")
}

/// Reads a message from protobuf's JSON mapping.
pub fn from_json<M: Message + Default>(name: &str, document: &Value) -> Result<M, Mismatch> {
    let message = DynamicMessage::deserialize(descriptor(name), document)
        .map_err(|error| format!("the table's {name} is not one: {error}"))?;
    message.transcode_to().map_err(|error| error.to_string())
}

/// Writes a message in protobuf's JSON mapping.
pub fn to_json<M: Message>(name: &str, message: &M) -> Value {
    let mut dynamic = DynamicMessage::new(descriptor(name));
    dynamic.transcode_from(message).expect("a message of the contract");
    serde_json::to_value(&dynamic).expect("a message is JSON")
}

/// The deadline of a call and its headers.
pub struct CallOptions {
    pub deadline: Duration,
    headers: MetadataMap,
}

impl CallOptions {
    /// Reads `deadline_ms` and `headers` of a step.
    pub fn of(step: &Value, deadline: Duration) -> Result<Self, Mismatch> {
        let deadline = step["deadline_ms"].as_u64().map_or(deadline, Duration::from_millis);
        let mut headers = MetadataMap::new();
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            let name: AsciiMetadataKey = name.parse().map_err(|_| format!("{name} is no header"))?;
            let value =
                value.as_str().unwrap_or_default().parse().map_err(|_| format!("{name} is no header's value"))?;
            headers.insert(name, value);
        }
        Ok(Self { deadline, headers })
    }

    /// Makes a request with them.
    pub fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request.set_timeout(self.deadline);
        request
    }
}

/// What a call came to: the response in JSON, or its status.
pub type Answer = Result<Value, Status>;

/// Calls a unary method.
pub async fn call(channel: Channel, name: &str, document: &Value, options: &CallOptions) -> Result<Answer, Mismatch> {
    macro_rules! methods {
        ($($service:ident.$rpc:ident: $client:ident.$method:ident($request:ident) -> $response:ident;)*) => {
            match name {
                $(concat!(stringify!($service), ".", stringify!($rpc)) => {
                    let message: stepwire_example::v1::$request = from_json(stringify!($request), document)?;
                    let request = options.request(message);
                    let answer = $client::new(channel).$method(request).await;
                    Ok(answer.map(|answer| to_json(stringify!($response), answer.get_ref())))
                })*
                _ => Err(format!("there is no unary method {name}")),
            }
        };
    }
    methods! {
        RunService.StartRun: RunServiceClient.start_run(StartRunRequest) -> StartRunResponse;
        RunService.GetRun: RunServiceClient.get_run(GetRunRequest) -> GetRunResponse;
        RunService.ListRuns: RunServiceClient.list_runs(ListRunsRequest) -> ListRunsResponse;
        RunService.WaitRun: RunServiceClient.wait_run(WaitRunRequest) -> WaitRunResponse;
        RunService.CancelRun: RunServiceClient.cancel_run(CancelRunRequest) -> CancelRunResponse;
        RunService.RetryRun: RunServiceClient.retry_run(RetryRunRequest) -> RetryRunResponse;
        RunService.PauseRun: RunServiceClient.pause_run(PauseRunRequest) -> PauseRunResponse;
        RunService.ResumeRun: RunServiceClient.resume_run(ResumeRunRequest) -> ResumeRunResponse;
        RunService.DeleteRun: RunServiceClient.delete_run(DeleteRunRequest) -> DeleteRunResponse;
        RunService.SendEvent: RunServiceClient.send_event(SendEventRequest) -> SendEventResponse;
        RunService.PublishEvent: RunServiceClient.publish_event(PublishEventRequest) -> PublishEventResponse;
        RunService.WaitForEvent: RunServiceClient.wait_for_event(WaitForEventRequest) -> WaitForEventResponse;
        StateService.GetState: StateServiceClient.get_state(GetStateRequest) -> GetStateResponse;
        StateService.SetState: StateServiceClient.set_state(SetStateRequest) -> SetStateResponse;
        StateService.UnsetState: StateServiceClient.unset_state(UnsetStateRequest) -> UnsetStateResponse;
        StateService.ReplaceState: StateServiceClient.replace_state(ReplaceStateRequest) -> ReplaceStateResponse;
        ScheduleService.CreateSchedule:
            ScheduleServiceClient.create_schedule(CreateScheduleRequest) -> CreateScheduleResponse;
        ScheduleService.GetSchedule:
            ScheduleServiceClient.get_schedule(GetScheduleRequest) -> GetScheduleResponse;
        ScheduleService.ListSchedules:
            ScheduleServiceClient.list_schedules(ListSchedulesRequest) -> ListSchedulesResponse;
        ScheduleService.UpdateSchedule:
            ScheduleServiceClient.update_schedule(UpdateScheduleRequest) -> UpdateScheduleResponse;
        ScheduleService.PauseSchedule:
            ScheduleServiceClient.pause_schedule(PauseScheduleRequest) -> PauseScheduleResponse;
        ScheduleService.ResumeSchedule:
            ScheduleServiceClient.resume_schedule(ResumeScheduleRequest) -> ResumeScheduleResponse;
        ScheduleService.TriggerSchedule:
            ScheduleServiceClient.trigger_schedule(TriggerScheduleRequest) -> TriggerScheduleResponse;
        ScheduleService.DeleteSchedule:
            ScheduleServiceClient.delete_schedule(DeleteScheduleRequest) -> DeleteScheduleResponse;
        ScheduleService.BackfillSchedule:
            ScheduleServiceClient.backfill_schedule(BackfillScheduleRequest) -> BackfillScheduleResponse;
        SnapshotService.GetSnapshot: SnapshotServiceClient.get_snapshot(GetSnapshotRequest) -> GetSnapshotResponse;
        SnapshotService.ListSnapshots:
            SnapshotServiceClient.list_snapshots(ListSnapshotsRequest) -> ListSnapshotsResponse;
        WorkflowService.ListWorkflows:
            WorkflowServiceClient.list_workflows(ListWorkflowsRequest) -> ListWorkflowsResponse;
        WorkflowService.GetWorkflow: WorkflowServiceClient.get_workflow(GetWorkflowRequest) -> GetWorkflowResponse;
    }
}

/// Calls any method with bytes that need not be a message.
pub async fn call_raw(channel: Channel, name: &str, bytes: Vec<u8>, options: &CallOptions) -> Result<Answer, Mismatch> {
    let path = PathAndQuery::try_from(format!("/stepwire.v1.{}", name.replacen('.', "/", 1)))
        .map_err(|error| error.to_string())?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let request = options.request(bytes);
    let answer = grpc.unary(request, path, bytes_codec::BytesCodec).await;
    Ok(answer.map(|_| Value::Object(Default::default())))
}

/// Sends bytes as they are; ignores what comes back.
mod bytes_codec {
    use prost::bytes::{Buf, BufMut};
    use tonic::{
        Status,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    };

    #[derive(Default)]
    pub struct BytesCodec;

    impl Codec for BytesCodec {
        type Encode = Vec<u8>;
        type Decode = ();
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for BytesCodec {
        type Item = Vec<u8>;
        type Error = Status;

        fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
            to.put_slice(&item);
            Ok(())
        }
    }

    impl Decoder for BytesCodec {
        type Item = ();
        type Error = Status;

        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
            from.advance(from.remaining());
            Ok(Some(()))
        }
    }
}
