// A stream as items. The client checks that batches are contiguous.

import { type MessageInitShape, create, fromJson, toJson } from "@bufbuild/protobuf";

import { type CallOptions, type Client, type Frame, Frames, StepwireError } from "@stepwire/client/node";
import {
  ConverseRequestSchema,
  ConverseResponseSchema,
  ConverseSendResultSchema,
  StreamEventsRequestSchema,
} from "@stepwire/client/gen/stepwire/v1/run_service_pb";
import { type EventBatch, LogEntrySchema } from "@stepwire/client/gen/stepwire/v1/types_pb";

import { type JsonObject, type Json, Mismatch } from "./pattern.js";
import { errorOf } from "./wire.js";

/** How a stream came to its end; without `failure` it was OK. */
export class Ended extends Mismatch {
  constructor(readonly failure?: JsonObject) {
    super(failure ? `the stream failed: ${JSON.stringify(failure)}` : "the stream ended");
  }
}

export class Stream {
  private readonly items: JsonObject[] = [];
  private readonly reading: AsyncIterator<Frame>;

  private constructor(
    private readonly frames: Frames,
    private readonly leaving: AbortController,
    private readonly met: (error: JsonObject) => JsonObject,
  ) {
    this.reading = frames[Symbol.asyncIterator]();
  }

  static open(
    client: Client,
    name: string,
    request: JsonObject,
    options: CallOptions,
    met: (error: JsonObject) => JsonObject,
  ): Stream {
    const leaving = new AbortController();
    const call = { ...options, signal: leaving.signal };
    const frames =
      name === "RunService.Converse"
        ? Frames.ofConverse(client, fromJson(ConverseRequestSchema, request), call)
        : Frames.ofStream(client, fromJson(StreamEventsRequestSchema, request), call);
    return new Stream(frames, leaving, met);
  }

  send(frame: JsonObject): void {
    this.frames.send(fromJson(ConverseRequestSchema, frame));
  }

  halfClose(): void {
    this.frames.halfClose();
  }

  cut(): void {
    this.leaving.abort();
  }

  /** Return the next item; throws Ended at the stream's end. */
  async take(): Promise<JsonObject> {
    while (this.items.length === 0) {
      let next: IteratorResult<Frame>;
      try {
        next = await this.reading.next();
      } catch (error) {
        if (!(error instanceof StepwireError)) throw error;
        throw new Ended(this.met(errorOf(error)));
      }
      if (next.done) throw new Ended();
      this.add(next.value);
    }
    return this.items.shift()!;
  }

  private add({ frame }: Frame): void {
    if (frame.case === "events") return this.addBatch(frame.value);
    if (frame.case === "sendResult" && frame.value.result.case === "error") {
      const error = this.met(errorOf(StepwireError.fromStatus(frame.value.result.value)));
      const { requestId, delivered } = frame.value;
      const bare: MessageInitShape<typeof ConverseSendResultSchema> = { requestId, delivered };
      const result = toJson(ConverseSendResultSchema, create(ConverseSendResultSchema, bare)) as JsonObject;
      this.items.push({ sendResult: { ...result, error } });
      return;
    }
    const response = { frame } as MessageInitShape<typeof ConverseResponseSchema>;
    this.items.push(toJson(ConverseResponseSchema, create(ConverseResponseSchema, response)) as JsonObject);
  }

  private addBatch(batch: EventBatch): void {
    let last = batch.fromSequence - 1n;
    for (const entry of batch.entries) {
      if (entry.sequence <= last || entry.sequence > batch.toSequence) {
        throw new Mismatch(`entry ${entry.sequence} is out of order`);
      }
      last = entry.sequence;
      this.items.push({ entry: toJson(LogEntrySchema, entry) as Json });
    }
  }
}
