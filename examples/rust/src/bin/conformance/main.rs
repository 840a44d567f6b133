//! The conformance driver: runs the scenarios of a table, prints a line of JSON for each.
//!
//! conformance TABLE.json

mod client;
mod errors;
mod matching;
mod stream;

use std::{collections::HashMap, env, error::Error, fs, io::Write, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use client::CallOptions;
use matching::{Mismatch, at_path, check, substitute};
use serde_json::{Map, Value, json};
use stream::{Next, Stream};
use tonic::transport::{Channel, Endpoint};

const CALL: Duration = Duration::from_secs(15);
const STREAM: Duration = Duration::from_secs(30);

/// A scenario under way: its variables and its streams.
struct Run {
    channel: Channel,
    variables: Map<String, Value>,
    streams: HashMap<String, Stream>,
    last_error: Value,
}

impl Run {
    async fn step(&mut self, step: &Value) -> Result<(), Mismatch> {
        let save = step.get("save").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut rest = step.clone();
        rest.as_object_mut().ok_or("a step is an object")?.remove("save");
        let step = substitute(&rest, &self.variables)?;
        let document = self.perform(&step).await?;
        for (name, path) in save {
            let value = at_path(&document, path.as_str().unwrap_or_default())?.clone();
            self.variables.insert(name, value);
        }
        Ok(())
    }

    async fn perform(&mut self, step: &Value) -> Result<Value, Mismatch> {
        let name = step["stream"].as_str().unwrap_or("main").to_owned();
        if let Some(method) = step["call"].as_str() {
            return self.call(method, step).await;
        }
        if let Some(method) = step["open"].as_str() {
            let stream = Stream::open(self.channel.clone(), method, request(step), &CallOptions::of(step, STREAM)?)?;
            self.streams.insert(name, stream);
            return Ok(Value::Null);
        }
        if step.get("cut").is_some() {
            self.streams.remove(&name);
            return Ok(Value::Null);
        }
        let stream = self.streams.get_mut(&name).ok_or_else(|| format!("no stream {name} is open"))?;
        if let Some(frame) = step.get("send") {
            stream.send(frame)?;
        } else if step.get("half_close").is_some() {
            stream.half_close();
        } else if let Some(patterns) = step["receive"].as_array() {
            let mut item = Value::Null;
            for pattern in patterns {
                item = self.take(&name).await?;
                check(pattern, Some(&item), "the item")?;
            }
            return Ok(item);
        } else if let Some(pattern) = step.get("until") {
            loop {
                let item = self.take(&name).await?;
                if check(pattern, Some(&item), "").is_ok() {
                    return Ok(item);
                }
            }
        } else if step.get("end").is_some() {
            self.end(&name, step.get("error")).await?;
        } else {
            return Err("the step has no verb".into());
        }
        Ok(Value::Null)
    }

    async fn call(&mut self, method: &str, step: &Value) -> Result<Value, Mismatch> {
        let (channel, options) = (self.channel.clone(), CallOptions::of(step, CALL)?);
        let answer = match step["raw"].as_str() {
            Some(raw) => {
                let bytes = BASE64_STANDARD.decode(raw).map_err(|error| error.to_string())?;
                client::call_raw(channel, method, bytes, &options).await?
            }
            None => client::call(channel, method, request(step), &options).await?,
        };
        match (answer, step.get("error")) {
            (Ok(_), Some(_)) => Err("the call succeeded".into()),
            (Ok(document), None) => {
                check(step.get("expect").unwrap_or(&json!({})), Some(&document), "the response")?;
                Ok(document)
            }
            (Err(status), expected) => {
                let found = self.met(errors::of_call(&status));
                let pattern = expected.ok_or_else(|| format!("the call failed: {found}"))?;
                check(pattern, Some(&found), "the error")?;
                Ok(found)
            }
        }
    }

    async fn take(&mut self, name: &str) -> Result<Value, Mismatch> {
        match self.streams.get_mut(name).ok_or("no such stream")?.next().await? {
            Next::Item(item) => {
                if let Some(error) = item.pointer("/sendResult/error") {
                    self.met(error.clone());
                }
                Ok(item)
            }
            Next::End(None) => Err("the stream ended".into()),
            Next::End(Some(status)) => Err(format!("the stream failed: {}", self.met(errors::of_call(&status)))),
        }
    }

    async fn end(&mut self, name: &str, expected: Option<&Value>) -> Result<(), Mismatch> {
        match (self.streams.get_mut(name).ok_or("no such stream")?.next().await?, expected) {
            (Next::Item(item), _) => Err(format!("the stream goes on with {item}")),
            (Next::End(None), None) => Ok(()),
            (Next::End(None), Some(_)) => Err("the stream ended without an error".into()),
            (Next::End(Some(status)), expected) => {
                let found = self.met(errors::of_call(&status));
                check(expected.ok_or_else(|| format!("the stream failed: {found}"))?, Some(&found), "the error")
            }
        }
    }

    fn met(&mut self, error: Value) -> Value {
        self.last_error = error.clone();
        error
    }
}

fn request(step: &Value) -> &Value {
    static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({}));
    step.get("request").unwrap_or(&EMPTY)
}

async fn run(scenario: &Value, channel: Channel, variables: &Map<String, Value>) -> Value {
    let mut run = Run { channel, variables: variables.clone(), streams: HashMap::new(), last_error: json!({}) };
    let mut detail = String::new();
    for (number, step) in scenario["steps"].as_array().into_iter().flatten().enumerate() {
        if let Err(mismatch) = run.step(step).await {
            let text: String = mismatch.chars().take(500).collect();
            detail = format!("step {number}: {text}");
            break;
        }
    }
    json!({
        "scenario": scenario["name"],
        "ok": detail.is_empty(),
        "detail": detail,
        "code": run.last_error["code"].as_str().unwrap_or(""),
        "reason": run.last_error["reason"].as_str().unwrap_or(""),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: conformance TABLE.json")?;
    let table: Value = serde_json::from_slice(&fs::read(path)?)?;
    let mut channels = HashMap::new();
    for (name, address) in table["servers"].as_object().ok_or("the table names no servers")? {
        let address = address.as_str().ok_or("an address is a string")?;
        channels.insert(name.as_str(), Endpoint::from_shared(format!("http://{address}"))?.connect_lazy());
    }
    let variables = table["vars"].as_object().ok_or("the table has no variables")?;
    for scenario in table["scenarios"].as_array().ok_or("the table has no scenarios")? {
        let server = scenario["server"].as_str().unwrap_or("main");
        let channel = channels.get(server).ok_or("a scenario names an unknown server")?.clone();
        println!("{}", run(scenario, channel, variables).await);
        std::io::stdout().flush()?;
    }
    Ok(())
}
