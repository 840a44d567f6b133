//! StreamEvents and Converse as items.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};
use stepwire_example::v1::{
    ConverseRequest, EventBatch, StreamEventsRequest, converse_request, converse_response, converse_send_result,
    run_service_client::RunServiceClient, stream_events_response,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{
    client::{CallOptions, from_json, to_json},
    errors,
    matching::Mismatch,
};

type Frame = converse_response::Frame;

/// An open stream; dropping it cancels the call.
pub struct Stream {
    frames: Option<mpsc::UnboundedSender<ConverseRequest>>,
    arrived: mpsc::Receiver<Result<Frame, Option<Status>>>,
    task: JoinHandle<()>,
    items: VecDeque<Value>,
    cursor: i64,
}

/// What a stream gives next.
pub enum Next {
    Item(Value),
    End(Option<Status>),
}

impl Stream {
    /// Opens the stream that `name` says.
    pub fn open(channel: Channel, name: &str, document: &Value, options: &CallOptions) -> Result<Self, Mismatch> {
        let mut client = RunServiceClient::new(channel);
        let (arrive, arrived) = mpsc::channel(16);
        let (task, frames, cursor);
        match name {
            "RunService.StreamEvents" => {
                let message: StreamEventsRequest = from_json("StreamEventsRequest", document)?;
                cursor = message.after_sequence;
                frames = None;
                let request = options.request(message);
                task = spawn(arrive.clone(), options.deadline, async move {
                    let mut stream = client.stream_events(request).await?.into_inner();
                    while let Some(message) = stream.message().await? {
                        let Some(frame) = message.frame else { continue };
                        let frame = match frame {
                            stream_events_response::Frame::Events(batch) => Frame::Events(batch),
                            stream_events_response::Frame::Heartbeat(beat) => Frame::Heartbeat(beat),
                            stream_events_response::Frame::Finished(finished) => Frame::Finished(finished),
                        };
                        if arrive.send(Ok(frame)).await.is_err() {
                            break;
                        }
                    }
                    Ok(())
                });
            }
            "RunService.Converse" => {
                let first: ConverseRequest = from_json("ConverseRequest", document)?;
                cursor = match &first.frame {
                    Some(converse_request::Frame::Attach(attach)) => attach.after_sequence,
                    _ => 0,
                };
                let (sender, outgoing) = mpsc::unbounded_channel();
                sender.send(first).map_err(|error| error.to_string())?;
                frames = Some(sender);
                let request = options.request(UnboundedReceiverStream::new(outgoing));
                task = spawn(arrive.clone(), options.deadline, async move {
                    let mut stream = client.converse(request).await?.into_inner();
                    while let Some(message) = stream.message().await? {
                        let Some(frame) = message.frame else { continue };
                        if arrive.send(Ok(frame)).await.is_err() {
                            break;
                        }
                    }
                    Ok(())
                });
            }
            _ => return Err(format!("there is no stream {name}")),
        }
        Ok(Self { frames, arrived, task, items: VecDeque::new(), cursor })
    }

    /// Sends a frame.
    pub fn send(&self, document: &Value) -> Result<(), Mismatch> {
        let frame = from_json("ConverseRequest", document)?;
        let frames = self.frames.as_ref().ok_or("the stream takes no more frames")?;
        frames.send(frame).map_err(|_| "the stream is gone".into())
    }

    /// Sends no more frames.
    pub fn half_close(&mut self) {
        self.frames = None;
    }

    /// Returns the next item, or the end.
    pub async fn next(&mut self) -> Result<Next, Mismatch> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(Next::Item(item));
            }
            match self.arrived.recv().await {
                Some(Ok(frame)) => self.take_in(frame)?,
                Some(Err(status)) => return Ok(Next::End(status)),
                None => return Err("the stream is over".into()),
            }
        }
    }

    fn take_in(&mut self, frame: Frame) -> Result<(), Mismatch> {
        match frame {
            Frame::Heartbeat(_) => {}
            Frame::Events(batch) => self.take_batch(&batch)?,
            Frame::Opened(opened) => self.items.push_back(json!({"opened": to_json("ConverseOpened", &opened)})),
            Frame::Finished(finished) => self.items.push_back(json!({"finished": to_json("RunFinished", &finished)})),
            Frame::SendResult(mut sent) => {
                let error = match &sent.result {
                    Some(converse_send_result::Result::Error(status)) => Some(errors::of_status(status)),
                    _ => None,
                };
                if error.is_some() {
                    sent.result = None;
                }
                let mut item = to_json("ConverseSendResult", &sent);
                if let Some(error) = error {
                    item["error"] = error;
                }
                self.items.push_back(json!({"sendResult": item}));
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &EventBatch) -> Result<(), Mismatch> {
        let (from, to) = (batch.from_sequence, batch.to_sequence);
        if from != self.cursor + 1 || to < from {
            return Err(format!("a batch covers {from} to {to} after {}", self.cursor));
        }
        let mut last = from - 1;
        for entry in &batch.entries {
            if entry.sequence <= last || entry.sequence > to {
                return Err(format!("entry {} is out of order", entry.sequence));
            }
            last = entry.sequence;
            self.items.push_back(json!({"entry": to_json("LogEntry", entry)}));
        }
        self.cursor = to;
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the reading side of a stream to its end, or to the deadline.
fn spawn(
    arrive: mpsc::Sender<Result<Frame, Option<Status>>>,
    deadline: Duration,
    reading: impl Future<Output = Result<(), Status>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // tonic's own timer covers a stream only up to its first message.
        let end = match tokio::time::timeout(deadline, reading).await {
            Ok(end) => end.err(),
            Err(_) => Some(Status::deadline_exceeded("the deadline passed")),
        };
        let _ = arrive.send(Err(end)).await; // nobody listens once the stream was dropped
    })
}
