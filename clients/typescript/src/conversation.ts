// Events both ways on one connection.

import { StepwireError } from "./errors.js";
import type { ConverseSendResult } from "./gen/stepwire/v1/run_service_pb.js";
import { type LogEntry, PayloadEncoding } from "./gen/stepwire/v1/types_pb.js";
import { newId } from "./client.js";
import { toPayload, toSequence } from "./payload.js";
import { type AnyEvent, type EventOptions, type Run, type Sent, eventOf } from "./run.js";
import { Frames } from "./stream.js";

/** How many events may wait in this program before the server pauses. */
const WINDOW = 256;

/**
 * A conversation with a run: iterate over its events, and `send` events. Over Connect, which browsers have, it is a
 * stream of events and a call for each send; it begins with the iteration.
 */
export class Conversation<E extends AnyEvent = AnyEvent> implements AsyncIterable<E> {
  readonly #frames: Frames | undefined;
  readonly #sends = new Map<string, { resolve: (sent: Sent) => void; reject: (error: unknown) => void }>();
  #entries: LogEntry[] = [];
  #failure: { error: unknown } | undefined;
  #ended = false;
  #wake: () => void = () => {};

  constructor(
    private readonly run: Run<E>,
    private readonly options: EventOptions,
  ) {
    const { after = 0, types = [], internal = false, ...call } = options;
    if (!run.client.bidirectional) return;
    const stream = { encoding: PayloadEncoding.JSON, includeInternal: internal, eventTypes: types };
    const value = { runId: run.id, afterSequence: toSequence(after, "after"), options: stream, maxUnacked: WINDOW };
    this.#frames = Frames.ofConverse(run.client, { frame: { case: "attach", value } }, call);
    void this.#receive();
  }

  /** Send an event; return its place in the log and how many took it. Throws StepwireError. */
  async send(type: string, data: object = {}): Promise<Sent> {
    if (!this.#frames) return await this.run.send(type, data);
    if (this.#failure) throw this.#failure.error;
    const event = { type, payload: toPayload(data, "data") };
    const requestId = newId();
    const result = new Promise<Sent>((resolve, reject) => this.#sends.set(requestId, { resolve, reject }));
    this.#frames.send({ frame: { case: "send", value: { requestId, event } } });
    return await result;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<E, void> {
    if (!this.#frames) return yield* this.run.events(this.options);
    for (let taken = 0; ; ) {
      const entry = this.#entries.shift();
      if (entry) {
        yield eventOf<E>(entry);
        if (++taken % (WINDOW / 2) === 0) this.#frames.send({ frame: { case: "ack", value: { sequence: entry.sequence } } });
      } else if (this.#failure) {
        if (this.#ended) return;
        throw this.#failure.error;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  /** Hand out what arrives, until the conversation ends. */
  async #receive(): Promise<void> {
    try {
      for await (const { frame } of this.#frames!) {
        if (frame.case === "events") this.#entries.push(...frame.value.entries);
        if (frame.case === "sendResult") this.#resolve(frame.value);
        if (frame.case === "finished") this.#ended = true;
        this.#wake();
      }
      this.#failure = { error: new Error(`run ${this.run.id} has ended`) };
    } catch (error) {
      this.#failure = { error };
    }
    for (const { reject } of this.#sends.values()) reject(this.#failure.error);
    this.#sends.clear();
    this.#wake();
  }

  #resolve({ requestId, delivered, result }: ConverseSendResult): void {
    const waiting = this.#sends.get(requestId);
    this.#sends.delete(requestId);
    if (result.case === "error") waiting?.reject(StepwireError.fromStatus(result.value));
    else waiting?.resolve({ sequence: Number(result.value ?? 0), delivered });
  }
}
