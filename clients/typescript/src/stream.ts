// StreamEvents and Converse over as many connections as it takes.

import { type MessageInitShape, create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { createAsyncIterable, createWritableIterable, type WritableIterable } from "@connectrpc/connect/protocol";
import { Code, ConnectError } from "@connectrpc/connect";

import { type CallOptions, type Client, newId } from "./client.js";
import { StepwireError } from "./errors.js";
import {
  type ConverseRequest,
  ConverseRequestSchema,
  type ConverseResponse,
  RunService,
  type StreamEventsResponse,
  StreamEventsRequestSchema,
} from "./gen/stepwire/v1/run_service_pb.js";

/** A frame: opened (once), events, sendResult, finished. Heartbeats are kept back. */
export type Frame = { frame: Exclude<(ConverseResponse | StreamEventsResponse)["frame"], { case: "heartbeat" }> };

type Response = ConverseResponse | StreamEventsResponse;

/**
 * The frames of a stream. It opens again where it was after a lost connection, or after two heartbeats that are missing,
 * and repeats the sends that have no result yet under their requestId. Iterate it once; it throws StepwireError.
 */
export class Frames implements AsyncIterable<Frame> {
  #runId: string;
  #cursor: bigint;
  #opened = false;
  #closed = false;
  #pending: ConverseRequest[] = [];
  #output: WritableIterable<ConverseRequest> | undefined;
  #interval = 15_000; // milliseconds between heartbeats: the server's default, until it says otherwise
  readonly #end: number;

  private constructor(
    private readonly client: Client,
    private readonly call: CallOptions,
    private readonly request: MessageInitShape<typeof StreamEventsRequestSchema> | undefined,
    private readonly first: ConverseRequest | undefined,
  ) {
    const attach = first?.frame.case === "attach" ? first.frame.value : undefined;
    this.#runId = request?.runId ?? attach?.runId ?? "";
    this.#cursor = request?.afterSequence ?? attach?.afterSequence ?? 0n;
    this.#end = Date.now() + (call.timeout ?? Infinity);
  }

  /** Read the log of a run. */
  static ofStream(client: Client, request: MessageInitShape<typeof StreamEventsRequestSchema>, call: CallOptions = {}): Frames {
    return new Frames(client, call, request, undefined);
  }

  /** Hold a conversation, which opens with its first frame, a start or an attach. It needs gRPC. */
  static ofConverse(client: Client, init: MessageInitShape<typeof ConverseRequestSchema>, call: CallOptions = {}): Frames {
    const first = create(ConverseRequestSchema, init);
    if (first.frame.case === "start" && first.frame.value.request) first.frame.value.request.requestId ||= newId();
    return new Frames(client, call, undefined, first);
  }

  /** Send a frame of a conversation. A send without a requestId gets one. */
  send(init: MessageInitShape<typeof ConverseRequestSchema>): void {
    const message = create(ConverseRequestSchema, init);
    if (message.frame.case === "send") message.frame.value.requestId ||= newId();
    if (message.frame.case === "send" || message.frame.case === "cancel") this.#pending.push(message);
    this.#output?.write(message).catch(() => {}); // a failure shows in the frames, which open again
  }

  /** Send no more frames. The output goes on. */
  halfClose(): void {
    this.#closed = true;
    this.#output?.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame, void> {
    const { replicas, options } = this.client;
    const { signal } = this.call;
    for (let failures = 0, lostAt = 0; ; ) {
      const index = replicas.pick(this.#runId);
      const attempt = new AbortController();
      const cut = (): void => attempt.abort();
      signal?.addEventListener("abort", cut);
      try {
        const responses = (await this.#quiet(attempt, this.#open(index, attempt.signal)))[Symbol.asyncIterator]();
        for (;;) {
          const next = await this.#quiet(attempt, responses.next());
          if (next.done && this.request?.noFollow) return;
          if (next.done) throw new ConnectError("the stream ended before the run did", Code.Unavailable);
          failures = 0;
          const frame = this.#take(next.value);
          if (frame) yield { frame };
          if (frame?.case === "finished") return;
        }
      } catch (thrown) {
        const error = StepwireError.from(thrown);
        if (signal?.aborted || !error.lost) throw error;
        if (++failures === 1) lostAt = Date.now();
        replicas.failed(index);
        const left = Math.min(this.#end - Date.now(), lostAt + options.reconnect - Date.now());
        if (left <= 0) throw error;
        if (failures === 1) {
          options.log(`connection lost, going on after sequence ${this.#cursor} of run ${this.#runId}: ${error.message}`);
        }
        if (!(await replicas.pause(failures, error, left, signal))) throw error;
      } finally {
        signal?.removeEventListener("abort", cut);
        this.#output = undefined;
        attempt.abort();
      }
    }
  }

  /** Wait for an answer, and cut the call when not even heartbeats come: a proxy may keep it open. */
  async #quiet<T>(attempt: AbortController, answer: Promise<T>): Promise<T> {
    const limit = 2 * this.#interval + Math.max(2000, this.#interval / 3);
    const timer = setTimeout(() => attempt.abort(), limit);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Open the stream where it was, and repeat what has no result. */
  async #open(index: number, signal: AbortSignal): Promise<AsyncIterable<Response>> {
    const { transport } = this.client.replicas.connections[index]!;
    const timeout = this.#end === Infinity ? undefined : Math.max(1, this.#end - Date.now());
    if (this.request) {
      const request = create(StreamEventsRequestSchema, { ...this.request, afterSequence: this.#cursor });
      const input = createAsyncIterable([request]);
      return (await transport.stream(RunService.method.streamEvents, signal, timeout, this.call.headers, input)).message;
    }
    const output = createWritableIterable<ConverseRequest>();
    for (const frame of [this.#opening(), ...this.#pending]) output.write(frame).catch(() => {});
    if (this.#closed) output.close();
    this.#output = output;
    return (await transport.stream(RunService.method.converse, signal, timeout, this.call.headers, output)).message;
  }

  #opening(): ConverseRequest {
    const { frame } = this.first!;
    if (!this.#opened || (frame.case !== "start" && frame.case !== "attach")) return this.first!;
    const { options, maxUnacked } = frame.value;
    const value = { runId: this.#runId, afterSequence: this.#cursor, options, maxUnacked };
    return create(ConverseRequestSchema, { frame: { case: "attach", value } });
  }

  /** Note what a frame says; return it unless it is not for the caller, or the caller has seen the like. */
  #take({ frame }: Response): Frame["frame"] | undefined {
    if (frame.case === "heartbeat") {
      if (frame.value.interval) this.#interval = durationMs(frame.value.interval) || this.#interval;
      return undefined;
    }
    if (frame.case === "events") {
      const { fromSequence, toSequence } = frame.value;
      if (fromSequence !== this.#cursor + 1n || toSequence < fromSequence) {
        throw new GapError(`a batch covers ${fromSequence} to ${toSequence} after ${this.#cursor}`);
      }
      this.#cursor = toSequence;
    } else if (frame.case === "opened") {
      this.#runId = frame.value.run!.runId;
      if (this.#opened) return undefined;
      this.#opened = true;
    } else if (frame.case === "sendResult") {
      const { requestId } = frame.value;
      const rest = this.#pending.filter((sent) => sent.frame.case !== "send" || sent.frame.value.requestId !== requestId);
      if (rest.length === this.#pending.length) return undefined;
      this.#pending = rest;
    }
    return frame;
  }
}

/** A stream that lacks entries, which is a fault of the server or of something between. */
export class GapError extends StepwireError {
  override readonly name = "GapError";

  constructor(message: string) {
    super(new ConnectError(message, Code.DataLoss));
  }
}
