//! Starts a run of the approval workflow, follows its events, answers its question, prints the result.

use std::{env, error::Error, time::Duration};

use serde_json::json;
use stepwire_example::{
    document, payload,
    v1::{
        ConverseRequest, ConverseSend, ConverseStart, Event, EventRole, PayloadEncoding, StartRunRequest,
        StreamOptions, converse_request, converse_response, converse_send_result, run_service_client::RunServiceClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Endpoint};

fn frame(frame: converse_request::Frame) -> ConverseRequest {
    ConverseRequest { frame: Some(frame) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".into());
    let channel =
        Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(Duration::from_secs(5)).connect().await?;
    let mut runs = RunServiceClient::new(channel);

    // Converse: frames go out through `frames`, the log and the answers come in through `incoming`.
    let (frames, outgoing) = mpsc::channel(16);
    let expense = json!({"who": "ada", "amount": 120.5, "purpose": "a keyboard"});
    let start = ConverseStart {
        request: Some(StartRunRequest {
            workflow: "approval".into(),
            input: Some(payload(&expense)),
            ..Default::default()
        }),
        options: Some(StreamOptions { encoding: PayloadEncoding::Json.into(), ..Default::default() }),
        ..Default::default()
    };
    frames.send(frame(converse_request::Frame::Start(start))).await?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request.set_timeout(Duration::from_secs(60));
    let mut incoming = runs.converse(request).await?.into_inner();

    while let Some(message) = incoming.message().await? {
        match message.frame {
            Some(converse_response::Frame::Opened(opened)) => {
                println!("run {}", opened.run.unwrap_or_default().run_id);
            }
            Some(converse_response::Frame::Events(batch)) => {
                for entry in batch.entries {
                    let data = document(&entry.payload);
                    println!("{:>3} {} {data}", entry.sequence, entry.r#type);
                    if entry.role() == EventRole::InputRequired {
                        let answer = json!({"expense_id": data["expense_id"], "verdict": "approve", "by": "grace"});
                        let send = ConverseSend {
                            // Makes it safe to send again after a lost connection.
                            request_id: format!("answer-{}", entry.sequence),
                            event: Some(Event { r#type: "ApprovalAnswer".into(), payload: Some(payload(&answer)) }),
                            ..Default::default()
                        };
                        frames.send(frame(converse_request::Frame::Send(send))).await?;
                    }
                }
            }
            Some(converse_response::Frame::SendResult(sent)) => {
                if let Some(converse_send_result::Result::Error(status)) = sent.result {
                    return Err(format!("the answer was refused: {}", status.message).into());
                }
            }
            Some(converse_response::Frame::Finished(finished)) => {
                let outcome = finished.outcome.unwrap_or_default();
                println!("{}: {}", outcome.status().as_str_name(), document(&outcome.result));
            }
            Some(converse_response::Frame::Heartbeat(_)) | None => {}
        }
    }
    Ok(())
}
