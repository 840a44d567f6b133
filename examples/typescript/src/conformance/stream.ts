// A stream as items.

import { type MessageInitShape, create, fromJson, toJson } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";

import type { StepwireClient } from "../client.js";
import {
  type ConverseRequest,
  ConverseRequestSchema,
  type ConverseResponse,
  ConverseResponseSchema,
  ConverseSendResultSchema,
  RunService,
  type StreamEventsResponse,
  StreamEventsRequestSchema,
  StreamEventsResponseSchema,
} from "../gen/stepwire/v1/run_service_pb.js";
import { type EventBatch, LogEntrySchema } from "../gen/stepwire/v1/types_pb.js";
import { type JsonObject, type Json, Mismatch } from "./pattern.js";
import { errorObject, errorOf, isServiceError } from "./wire.js";

/** How a stream came to its end; without `failure` it was OK. */
export class Ended extends Mismatch {
  constructor(readonly failure?: JsonObject) {
    super(failure ? `the stream failed: ${JSON.stringify(failure)}` : "the stream ended");
  }
}

export class Stream {
  private readonly frames: AsyncIterator<StreamEventsResponse | ConverseResponse>;
  private readonly items: JsonObject[] = [];

  private constructor(
    private readonly call: grpc.ClientReadableStream<StreamEventsResponse | ConverseResponse>,
    private cursor: bigint,
    private readonly met: (error: JsonObject) => JsonObject,
  ) {
    call.on("error", () => {}); // one that comes while nobody reads is met by the next read
    this.frames = call[Symbol.asyncIterator]();
  }

  static open(
    client: StepwireClient,
    name: string,
    request: JsonObject,
    milliseconds: number,
    headers: grpc.Metadata,
    met: (error: JsonObject) => JsonObject,
  ): Stream {
    const options = { deadline: Date.now() + milliseconds };
    if (name === "RunService.Converse") {
      const first = fromJson(ConverseRequestSchema, request);
      const call = client.converse(RunService.method.converse, options, headers);
      call.write(first);
      return new Stream(call, first.frame.case === "attach" ? first.frame.value.afterSequence : 0n, met);
    }
    const first = fromJson(StreamEventsRequestSchema, request);
    const call = client.stream(RunService.method.streamEvents, first, options, headers);
    return new Stream(call, first.afterSequence, met);
  }

  send(frame: JsonObject): void {
    this.duplex().write(fromJson(ConverseRequestSchema, frame));
  }

  halfClose(): void {
    this.duplex().end();
  }

  cut(): void {
    this.call.cancel();
  }

  /** Return the next item; throws Ended at the stream's end. */
  async take(): Promise<JsonObject> {
    while (this.items.length === 0) {
      let next: IteratorResult<StreamEventsResponse | ConverseResponse>;
      try {
        next = await this.frames.next();
      } catch (error) {
        if (!isServiceError(error)) throw error;
        throw new Ended(this.met(errorOf(error)));
      }
      if (next.done) throw new Ended();
      this.add(next.value);
    }
    return this.items.shift()!;
  }

  private duplex(): grpc.ClientDuplexStream<ConverseRequest, ConverseResponse> {
    return this.call as grpc.ClientDuplexStream<ConverseRequest, ConverseResponse>;
  }

  private add(response: StreamEventsResponse | ConverseResponse): void {
    const { frame } = response;
    if (frame.case === "heartbeat") return;
    if (frame.case === "events") return this.addBatch(frame.value);
    if (frame.case === "sendResult" && frame.value.result.case === "error") {
      const error = this.met(errorObject(frame.value.result.value));
      const { requestId, delivered } = frame.value;
      const bare: MessageInitShape<typeof ConverseSendResultSchema> = { requestId, delivered };
      const result = toJson(ConverseSendResultSchema, create(ConverseSendResultSchema, bare)) as JsonObject;
      this.items.push({ sendResult: { ...result, error } });
    } else if (response.$typeName === "stepwire.v1.ConverseResponse") {
      this.items.push(toJson(ConverseResponseSchema, response) as JsonObject);
    } else {
      this.items.push(toJson(StreamEventsResponseSchema, response) as JsonObject);
    }
  }

  private addBatch(batch: EventBatch): void {
    if (batch.fromSequence !== this.cursor + 1n || batch.toSequence < batch.fromSequence) {
      throw new Mismatch(`a batch covers ${batch.fromSequence} to ${batch.toSequence} after ${this.cursor}`);
    }
    let last = this.cursor;
    for (const entry of batch.entries) {
      if (entry.sequence <= last || entry.sequence > batch.toSequence) {
        throw new Mismatch(`entry ${entry.sequence} is out of order`);
      }
      last = entry.sequence;
      this.items.push({ entry: toJson(LogEntrySchema, entry) as Json });
    }
    this.cursor = batch.toSequence;
  }
}
