// Calls with repeats, deadlines and several addresses.

import {
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  create,
} from "@bufbuild/protobuf";
import { type Interceptor } from "@connectrpc/connect";

import { StepwireError } from "./errors.js";
import { RunIdConflictPolicy, RunService } from "./gen/stepwire/v1/run_service_pb.js";
import { type Schedule as ScheduleInfo, ScheduleService, ScheduleSpecSchema } from "./gen/stepwire/v1/schedule_service_pb.js";
import { type ContextSnapshot, PayloadEncoding } from "./gen/stepwire/v1/types_pb.js";
import { WorkflowService, type Workflow } from "./gen/stepwire/v1/workflow_service_pb.js";
import { toPayload, toSequence } from "./payload.js";
import { type Connection, Replicas } from "./replicas.js";
import { type AnyEvent, Run } from "./run.js";
import { Schedule, type ScheduleSpec, change } from "./schedule.js";

/** How often an update begins again. */
const MOST_UPDATES = 20;

/** Settings of a client. */
export type Options = {
  /** Milliseconds that a call may take, its repeats included. Default: 30,000. */
  timeout?: number;
  /** Milliseconds for which a stream tries to reach a lost server before it fails. Default: 120,000. */
  reconnect?: number;
  /** Repeat calls after a lost connection. Default: true. Streams resume in any case. */
  repeats?: boolean;
  /** A bearer token, or a function that returns the present one, called for every call. */
  token?: string | (() => string | Promise<string>);
  /** Gets a line for each lost connection. Default: console.warn. */
  log?: (line: string) => void;
  /** Further interceptors of Connect. */
  interceptors?: Interceptor[];
};

/** Settings of one call or stream. */
export type CallOptions = { signal?: AbortSignal; timeout?: number; headers?: HeadersInit };

/** Settings of a start. */
export type StartOptions = CallOptions & {
  /** An id for the run; without it the server chooses one. */
  runId?: string;
  /** Return the run with this id if there is one. */
  useExisting?: boolean;
  /** Makes the start safe to repeat by another program. The client makes one of its own otherwise. */
  requestId?: string;
  /** Labels to find the run by. */
  labels?: { [name: string]: string };
  /** Continue from a snapshot; of a run that had not ended without an input. */
  snapshot?: ContextSnapshot;
  /** Fork a run of this server, at a sequence or from its latest snapshot. */
  from?: { runId: string; sequence?: number };
};

type Filter = CallOptions & { workflow?: string; labels?: { [name: string]: string } };

/** A client of one Stepwire service, at one address or at several replicas. `connect` makes it. */
export class Client {
  readonly replicas: Replicas;
  readonly options: Required<Omit<Options, "token" | "interceptors">>;

  /** `bidirectional`: the transport has streams in both directions. */
  constructor(connections: Connection[], options: Options = {}, readonly bidirectional = false) {
    this.replicas = new Replicas(connections);
    const { timeout = 30_000, reconnect = 120_000, repeats = true, log = console.warn } = options;
    this.options = { timeout, reconnect, repeats, log };
  }

  /** Start a run. The input has the fields of the start event. */
  async start<E extends AnyEvent = AnyEvent, R = unknown, S = any>(
    workflow: string,
    input?: object,
    options: StartOptions = {},
  ): Promise<Run<E, R, S>> {
    const { runId = "", requestId = newId(), labels = {}, snapshot, from, useExisting } = options;
    const { run } = await this.call(
      RunService.method.startRun,
      {
        workflow,
        input: input && toPayload(input, "input"),
        runId,
        requestId,
        labels,
        runIdConflictPolicy: useExisting ? RunIdConflictPolicy.USE_EXISTING : RunIdConflictPolicy.UNSPECIFIED,
        source: snapshot
          ? { case: "snapshot", value: snapshot }
          : from && { case: "from", value: { runId: from.runId, sequence: toSequence(from.sequence ?? 0, "from.sequence") } },
        encoding: PayloadEncoding.JSON,
      },
      options,
    );
    return this.run(run!.runId);
  }

  /** Return the handle of a run, without a call. */
  run<E extends AnyEvent = AnyEvent, R = unknown, S = any>(runId: string): Run<E, R, S> {
    return new Run(this, runId);
  }

  /** Create a schedule. Throws StepwireError with the reason SCHEDULE_EXISTS when there is one of this id. */
  async createSchedule(
    scheduleId: string,
    spec: ScheduleSpec,
    { paused = false, ...options }: CallOptions & { paused?: boolean } = {},
  ): Promise<Schedule> {
    const request = { scheduleId, spec: change(create(ScheduleSpecSchema), spec), paused };
    await this.call(ScheduleService.method.createSchedule, request, options);
    return this.schedule(scheduleId);
  }

  /** Return the handle of a schedule, without a call. */
  schedule(scheduleId: string): Schedule {
    return new Schedule(this, scheduleId);
  }

  /** Iterate over the schedules, of a workflow or with labels, newest first. */
  schedules({ workflow = "", labels = {}, ...options }: Filter = {}): AsyncGenerator<ScheduleInfo, void> {
    return pages(async (pageToken) => {
      const page = await this.call(ScheduleService.method.listSchedules, { workflow, labels, pageToken }, options);
      return { ...page, items: page.schedules };
    });
  }

  /** Describe a workflow: steps, events with their JSON Schemas, graph. */
  async workflow(name: string, options?: CallOptions): Promise<Workflow> {
    return (await this.call(WorkflowService.method.getWorkflow, { name }, options)).workflow!;
  }

  /**
   * Make any unary call of the contract, such as `client.call(RunService.method.listRuns, { workflow: "approval" })`.
   * It is repeated after a lost connection, at the next address where there are several, when a repeat changes nothing or
   * when its request has a requestId, which is made where it is empty. Throws StepwireError.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    init: MessageInitShape<I>,
    { signal, timeout = this.options.timeout, headers }: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const request = create(method.input, init) as MessageShape<I> & Named;
    const repeatable = prepare(method.name, request) && this.options.repeats;
    const end = Date.now() + timeout;
    for (let failures = 1; ; failures++) {
      const index = this.replicas.pick(request.runId ?? "");
      const left = end - Date.now();
      const limit = repeatable ? this.replicas.limit(failures - 1, left, method.name.startsWith("Wait")) : left;
      try {
        const { transport } = this.replicas.connections[index]!;
        const { message, trailer } = await transport.unary(
          method, signal, Math.max(1, Math.round(limit)), headers, request as MessageInitShape<I>,
        );
        const { run, runId } = message as Named;
        this.replicas.heard(request.runId || run?.runId || runId || "", trailer);
        return message;
      } catch (thrown) {
        const error = StepwireError.from(thrown);
        if (signal?.aborted || !error.lost) throw error;
        this.replicas.failed(index);
        const again = repeatable && (await this.replicas.pause(failures, error, end - Date.now(), signal));
        if (!again) throw error;
      }
    }
  }

  /** Repeat an update that reads and writes, as long as something else comes between. */
  async untilUnchanged<T>(update: () => Promise<T>, options?: CallOptions): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await update();
      } catch (error) {
        if (!(error instanceof StepwireError) || error.reason !== "ETAG_MISMATCH" || attempt === MOST_UPDATES) throw error;
        await this.replicas.pause(attempt, error, Infinity, options?.signal);
      }
    }
  }

  /** Close the connections. Calls under way fail. */
  close(): void {
    this.replicas.close();
  }
}

type Named = { runId?: string; requestId?: string; run?: { runId: string } };

/** Make the id of a request that has one, and say whether the call may be repeated. */
function prepare(method: string, request: Named): boolean {
  if (request.requestId === undefined) return /^(Get|List|Wait|Who|Cancel|Pause|Resume)/.test(method);
  request.requestId ||= newId();
  return true;
}

/** Iterate over the items of a list, page by page. */
export async function* pages<T>(
  list: (pageToken: string) => Promise<{ items: T[]; nextPageToken: string }>,
): AsyncGenerator<T, void> {
  let pageToken = "";
  do {
    const page = await list(pageToken);
    yield* page.items;
    pageToken = page.nextPageToken;
  } while (pageToken);
}

/** Return an id that makes a call safe to repeat. Browsers have randomUUID on secure pages only. */
export function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return an interceptor that sends a token. */
export function bearer(token: NonNullable<Options["token"]>): Interceptor {
  return (next) => async (request) => {
    request.header.set("authorization", `Bearer ${typeof token === "string" ? token : await token()}`);
    return await next(request);
  };
}
