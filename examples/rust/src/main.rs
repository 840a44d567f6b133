//! Starts a run of the approval workflow, follows its events, answers its question, prints the result. With several
//! addresses, separated by commas, it goes on with the next one when one fails.

use std::{
    env,
    error::Error,
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use stepwire_example::{
    document, payload,
    reconnect::{Silence, lost},
    v1::{
        ConverseAttach, ConverseRequest, ConverseSend, ConverseStart, Event, EventRole, LogEntry, Outcome,
        PayloadEncoding, StartRunRequest, StreamOptions, converse_request, converse_response, converse_send_result,
        run_service_client::RunServiceClient,
    },
};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// A conversation over as many connections as it takes.
#[derive(Default)]
struct Talk {
    /// Makes the start safe to repeat.
    request_id: String,
    /// Empty until the server has opened the conversation.
    run_id: String,
    /// What was seen: the next connection goes on after it.
    cursor: i64,
    /// An answer that has no result yet; sent again after a lost connection, it counts once.
    answer: Option<ConverseSend>,
    silence: Silence,
}

fn frame(frame: converse_request::Frame) -> ConverseRequest {
    ConverseRequest { frame: Some(frame) }
}

impl Talk {
    /// Returns the first frame of a connection.
    fn opening(&self) -> ConverseRequest {
        let options = Some(StreamOptions { encoding: PayloadEncoding::Json.into(), ..Default::default() });
        if !self.run_id.is_empty() {
            return frame(converse_request::Frame::Attach(ConverseAttach {
                run_id: self.run_id.clone(),
                after_sequence: self.cursor,
                options,
                ..Default::default()
            }));
        }
        let expense = json!({"who": "ada", "amount": 120.5, "purpose": "a keyboard"});
        let request = Some(StartRunRequest {
            workflow: "approval".into(),
            input: Some(payload(&expense)),
            request_id: self.request_id.clone(),
            ..Default::default()
        });
        frame(converse_request::Frame::Start(ConverseStart { request, options, ..Default::default() }))
    }

    /// Prints an entry, and answers it when it is a question.
    fn see(&mut self, entry: &LogEntry) {
        let data = document(&entry.payload);
        println!("{:>3} {} {data}", entry.sequence, entry.r#type);
        if entry.role() == EventRole::InputRequired {
            let answer = json!({"expense_id": data["expense_id"], "verdict": "approve", "by": "grace"});
            self.answer = Some(ConverseSend {
                request_id: format!("answer-{}", entry.sequence),
                event: Some(Event { r#type: "ApprovalAnswer".into(), payload: Some(payload(&answer)) }),
                ..Default::default()
            });
        }
    }

    /// Serves one connection; returns the outcome of the run, or None when the connection ended first.
    async fn connect(&mut self, runs: &mut RunServiceClient<Channel>) -> Result<Option<Outcome>, Status> {
        // Frames go out through `frames`; the log and the answers come in through `incoming`.
        let (frames, outgoing) = mpsc::channel(16);
        let closed = |_| Status::unavailable("the connection was lost");
        frames.send(self.opening()).await.map_err(closed)?;
        if let Some(answer) = self.answer.clone() {
            frames.send(frame(converse_request::Frame::Send(answer))).await.map_err(closed)?;
        }
        let silent = |_| Status::unavailable("the server is silent");
        let opening = runs.converse(ReceiverStream::new(outgoing));
        let mut incoming = time::timeout(self.silence.limit(), opening).await.map_err(silent)??.into_inner();
        loop {
            let Some(message) = time::timeout(self.silence.limit(), incoming.message()).await.map_err(silent)?? else {
                return Ok(None);
            };
            match message.frame {
                Some(converse_response::Frame::Opened(opened)) if self.run_id.is_empty() => {
                    self.run_id = opened.run.unwrap_or_default().run_id;
                    println!("run {}", self.run_id);
                }
                Some(converse_response::Frame::Events(batch)) => {
                    batch.entries.iter().for_each(|entry| self.see(entry));
                    self.cursor = batch.to_sequence;
                    if let Some(answer) = self.answer.clone() {
                        frames.send(frame(converse_request::Frame::Send(answer))).await.map_err(closed)?;
                    }
                }
                Some(converse_response::Frame::SendResult(sent)) => {
                    self.answer = None;
                    if let Some(converse_send_result::Result::Error(status)) = sent.result {
                        return Err(Status::invalid_argument(format!("the answer was refused: {}", status.message)));
                    }
                }
                Some(converse_response::Frame::Heartbeat(beat)) => self.silence.take(&beat),
                Some(converse_response::Frame::Finished(finished)) => return Ok(finished.outcome),
                _ => {}
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addresses = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".into());
    let mut replicas = Vec::new();
    for address in addresses.split(',') {
        // Pings find a server out that hangs.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(3))
            .http2_keep_alive_interval(Duration::from_secs(3))
            .keep_alive_timeout(Duration::from_secs(5));
        replicas.push(RunServiceClient::new(endpoint.connect_lazy()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let mut talk = Talk { request_id: format!("start-{}-{now}", process::id()), ..Default::default() };
    for attempt in 0.. {
        let replica = attempt % replicas.len();
        match talk.connect(&mut replicas[replica]).await {
            Ok(Some(outcome)) => {
                println!("{}: {}", outcome.status().as_str_name(), document(&outcome.result));
                return Ok(());
            }
            Err(status) if !lost(&status) => return Err(status.into()),
            _ => {}
        }
        eprintln!("connection lost, going on after sequence {}", talk.cursor);
        time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
