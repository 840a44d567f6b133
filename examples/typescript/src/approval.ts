// Start a run, follow its events, answer its question and print the result.
//
//   node build/approval.js [ADDRESS]

import { randomUUID } from "node:crypto";
import { stdin, stdout } from "node:process";
import { createInterface } from "node:readline/promises";
import { setTimeout } from "node:timers/promises";

import { type MessageInitShape } from "@bufbuild/protobuf";

import { StepwireClient } from "./client.js";
import { RunService } from "./gen/stepwire/v1/run_service_pb.js";
import {
  type LogEntry,
  type Outcome,
  type Payload,
  PayloadEncoding,
  PayloadSchema,
  RunStatus,
} from "./gen/stepwire/v1/types_pb.js";
import { Silence, lost } from "./reconnect.js";

// The events of the workflow; `stepwire describe approval` gives their JSON Schemas.
type Expense = { who: string; amount: number; purpose?: string };
type ApprovalQuestion = { expense_id: string; text: string };
type ApprovalAnswer = { expense_id: string; verdict: "approve" | "reject"; by: string };

const { startRun, streamEvents, sendEvent } = RunService.method;
const client = new StepwireClient(process.argv[2] ?? "127.0.0.1:50051");

try {
  const expense: Expense = { who: "ada", amount: 120, purpose: "a keyboard" };
  // The id makes the start safe to repeat after a lost connection.
  const { run } = await client.call(startRun, { workflow: "approval", input: payload(expense), requestId: randomUUID() });
  console.log("started", run!.runId);
  const outcome = await follow(run!.runId);
  console.log(`${RunStatus[outcome.status]}:`, json(outcome.result));
} finally {
  client.close();
}

/** Read the run's events to its end, over lost connections: the cursor loses nothing and sees nothing twice. */
async function follow(runId: string): Promise<Outcome> {
  let afterSequence = 0n;
  for (;;) {
    const options = { encoding: PayloadEncoding.JSON };
    const stream = client.stream(streamEvents, { runId, afterSequence, options });
    const silence = new Silence(() => stream.cancel());
    try {
      silence.wait();
      for await (const { frame } of stream) {
        silence.stop();
        if (frame.case === "events") {
          for (const entry of frame.value.entries) {
            console.log(String(entry.sequence).padStart(4), entry.type, JSON.stringify(json(entry.payload)));
            if (entry.type === "ApprovalQuestion") await reply(runId, entry);
          }
          afterSequence = frame.value.toSequence;
        } else if (frame.case === "finished") {
          return frame.value.outcome!;
        } else if (frame.case === "heartbeat") {
          silence.take(frame.value);
        }
        silence.wait();
      }
    } catch (error) {
      if (!lost(error)) throw error;
    } finally {
      silence.stop();
    }
    console.error(`connection lost, going on after sequence ${afterSequence}`);
    await setTimeout(1000);
  }
}

/** Ask the person at the terminal and send the answer. */
async function reply(runId: string, entry: LogEntry): Promise<void> {
  const question = json(entry.payload) as ApprovalQuestion;
  const terminal = createInterface({ input: stdin, output: stdout });
  const line = await terminal.question(`${question.text}. Approve? [y/n] `);
  terminal.close();
  const verdict = /^y/i.test(line) ? "approve" : "reject";
  const answer: ApprovalAnswer = { expense_id: question.expense_id, verdict, by: "typescript" };
  await client.call(sendEvent, {
    runId,
    event: { type: "ApprovalAnswer", payload: payload(answer) },
    // The same id for the same question: sent again after a lost connection, it counts once.
    requestId: `answer-${entry.sequence}`,
  });
}

function payload(fields: object): MessageInitShape<typeof PayloadSchema> {
  return { encoding: { case: "json", value: new TextEncoder().encode(JSON.stringify(fields)) } };
}

function json(found: Payload | undefined): unknown {
  return found?.encoding.case === "json" ? JSON.parse(new TextDecoder().decode(found.encoding.value)) : undefined;
}
