// A run: events, answers, state, snapshots.

import { type CallOptions, type Client, pages } from "./client.js";
import { Conversation } from "./conversation.js";
import { RunError, type StepwireError } from "./errors.js";
import { RunService } from "./gen/stepwire/v1/run_service_pb.js";
import { SnapshotService, type SnapshotInfo } from "./gen/stepwire/v1/snapshot_service_pb.js";
import { StateService } from "./gen/stepwire/v1/state_service_pb.js";
import {
  type ContextSnapshot,
  type LogEntry,
  type Outcome,
  PayloadEncoding,
  type PendingWaiter,
  type Run as RunInfo,
  RunStatus,
} from "./gen/stepwire/v1/types_pb.js";
import { fromPayload, toDuration, toPayload, toSequence } from "./payload.js";
import { Frames } from "./stream.js";

const encoding = PayloadEncoding.JSON;

/** An event: its type, its fields, and its place in the run's log. */
export type AnyEvent = { type: string; data: any; sequence: number; entry: LogEntry };

/** The event type E of a run, as `stepwire generate` writes it. */
export type Typed<Type extends string, Data> = { type: Type; data: Data; sequence: number; entry: LogEntry };

/** Where a sent event is in the log, and how many steps and waiters took it. */
export type Sent = { sequence: number; delivered: number };

/** What a stream of events carries. */
export type EventOptions = CallOptions & {
  /** Begin after this sequence. Default: 0, the beginning. */
  after?: number;
  /** Only events of these types, and the terminal one. */
  types?: string[];
  /** Also the events that were sent to steps and by steps. */
  internal?: boolean;
};

/** A run on the server, with its types: events, result, state. */
export class Run<E extends AnyEvent = AnyEvent, R = unknown, S = any> {
  constructor(
    readonly client: Client,
    readonly id: string,
  ) {}

  /** Iterate over the run's events to its end, each once, over lost connections. Throws StepwireError. */
  async *events({ after = 0, types = [], internal = false, ...call }: EventOptions = {}): AsyncGenerator<E, void> {
    const options = { encoding, includeInternal: internal, eventTypes: types };
    const request = { runId: this.id, afterSequence: toSequence(after, "after"), options };
    for await (const { frame } of Frames.ofStream(this.client, request, call)) {
      if (frame.case === "events") yield* frame.value.entries.map((entry) => eventOf<E>(entry));
    }
  }

  /** Follow the run and send events on one connection, where the transport has streams in both directions. */
  converse(options: EventOptions = {}): Conversation<E> {
    return new Conversation(this as Run<any>, options);
  }

  /** Wait for the end of the run and return its result. Throws RunError when it ended without one. */
  async result({ signal, timeout = Infinity }: CallOptions = {}): Promise<R> {
    const end = Date.now() + timeout;
    for (;;) {
      // Proxies end calls that take longer than some 30 seconds.
      const wait = Math.max(0, Math.min(25_000, end - Date.now()));
      const request = { runId: this.id, timeout: toDuration(Math.floor(wait), "timeout"), encoding };
      const limit = wait + this.client.options.timeout;
      const { run } = await this.client.call(RunService.method.waitRun, request, { signal, timeout: limit });
      if (run?.outcome) return resultOf<R>(this.id, run.outcome);
      if (Date.now() >= end) throw new DOMException(`run ${this.id} has not ended`, "TimeoutError");
    }
  }

  /** Return the run as the server knows it: status, open questions of it and of its children, outcome. */
  async info(options?: CallOptions): Promise<RunInfo> {
    return (await this.client.call(RunService.method.getRun, { runId: this.id, encoding }, options)).run!;
  }

  /** Iterate over the runs that steps of this one have started, newest first. */
  children(options?: CallOptions): AsyncGenerator<RunInfo, void> {
    return pages(async (pageToken) => {
      const page = await this.client.call(RunService.method.listRuns, { parentRunId: this.id, pageToken }, options);
      return { ...page, items: page.runs };
    });
  }

  /** Send an event to the run. */
  async send(type: string, data: object = {}, options: CallOptions & { requestId?: string } = {}): Promise<Sent> {
    const request = { runId: this.id, event: { type, payload: toPayload(data, "data") }, requestId: options.requestId ?? "" };
    const { sequence, delivered } = await this.client.call(RunService.method.sendEvent, request, options);
    return { sequence: Number(sequence), delivered };
  }

  /**
   * Answer a question: an event of the run, or one of the `pendingWaiters` of `info`, also one that a child asks. The
   * server knows which event type answers it and which fields that must have; `data` has the others. Answering the same
   * event again counts once. Throws NotOpenError when the run does not wait for the answer.
   */
  async answer(question: AnyEvent | PendingWaiter, data: object, options?: CallOptions): Promise<Sent> {
    const waiter = "waiterId" in question ? question : await this.#waiterFor(question, options);
    const requestId = "waiterId" in question ? "" : `answer-${question.sequence}`;
    const answer = { ...fromPayload(waiter.requirements), ...data };
    return await this.client.run(waiter.runId || this.id).send(waiter.eventType, answer, { ...options, requestId });
  }

  async #waiterFor(question: AnyEvent, options?: CallOptions): Promise<PendingWaiter> {
    const { pendingWaiters } = await this.info(options);
    const asked = canonical(question.data);
    const waiter = pendingWaiters.find(
      ({ prompt }) => prompt?.type === question.type && canonical(fromPayload(prompt.payload)) === asked,
    );
    if (!waiter) throw new NotOpenError(`${question.type} of run ${this.id} is not open: it was answered, or needs none`);
    return waiter;
  }

  /** End the run. A run that has ended stays as it is. */
  async cancel(reason = "", options?: CallOptions): Promise<void> {
    await this.client.call(RunService.method.cancelRun, { runId: this.id, reason }, options);
  }

  /** Return the value at a dotted path of the state, "" for all of it, with the state's etag. */
  async get<T = S>(path = "", options?: CallOptions): Promise<{ value: T; etag: string }> {
    const request = { runId: this.id, path, encoding };
    const { value, etag } = await this.client.call(StateService.method.getState, request, options);
    return { value: fromPayload(value) as T, etag };
  }

  /** Set the value at a path, with an etag only if the state still has it (reason ETAG_MISMATCH). Return the new etag. */
  async set(path: string, value: unknown, { etag = "", ...options }: CallOptions & { etag?: string } = {}): Promise<string> {
    const payload = toPayload(value);
    const written = path
      ? await this.client.call(StateService.method.setState, { runId: this.id, values: [{ path, value: payload }], etag }, options)
      : await this.client.call(StateService.method.replaceState, { runId: this.id, value: payload, etag }, options);
    return written.etag;
  }

  /** Remove the values at paths, all or none. */
  async unset(...paths: string[]): Promise<void> {
    await this.client.call(StateService.method.unsetState, { runId: this.id, paths });
  }

  /**
   * Change the value at a path: read it, let `change` return the new one, and write that unless the state has changed
   * meanwhile; then begin again. A path that is not there is undefined. Return the value that was written.
   */
  async update<T>(path: string, change: (value: T | undefined) => T | Promise<T>, options?: CallOptions): Promise<T> {
    return await this.client.untilUnchanged(async () => {
      const before = await this.get(path, options).catch(async (error: StepwireError) => {
        if (error.reason !== "PATH_NOT_FOUND") throw error;
        const { etag } = await this.get("", options); // older than the look that finds nothing
        return await this.get(path, options).catch(() => ({ value: undefined, etag }));
      });
      const value = await change(before.value as T | undefined);
      await this.set(path, value, { ...options, etag: before.etag });
      return value;
    }, options);
  }

  /** Return the snapshot at a sequence, 0 for the latest. `client.start` takes it as `snapshot`. */
  async snapshot(sequence = 0, options?: CallOptions): Promise<ContextSnapshot> {
    const request = { runId: this.id, sequence: toSequence(sequence, "sequence") };
    return (await this.client.call(SnapshotService.method.getSnapshot, request, options)).snapshot!;
  }

  /** Iterate over the snapshots that the server keeps, newest first. */
  snapshots(options?: CallOptions): AsyncGenerator<SnapshotInfo, void> {
    return pages(async (pageToken) => {
      const page = await this.client.call(SnapshotService.method.listSnapshots, { runId: this.id, pageToken }, options);
      return { ...page, items: page.snapshots };
    });
  }
}

/** A question that was answered already, or that waits for no answer of its own. */
export class NotOpenError extends Error {
  override readonly name = "NotOpenError";
}

/** Return a log entry as an event. */
export function eventOf<E extends AnyEvent>(entry: LogEntry): E {
  return { type: entry.type, data: fromPayload(entry.payload), sequence: Number(entry.sequence), entry } as E;
}

function resultOf<R>(runId: string, outcome: Outcome): R {
  if (outcome.status !== RunStatus.COMPLETED) throw new RunError(runId, outcome);
  return fromPayload(outcome.result) as R;
}

/** Return a document as text that does not depend on the order of keys. */
function canonical(document: unknown): string {
  return JSON.stringify(document, (_, value: unknown) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
      : value,
  );
}
