// When a stream is opened again: which errors are a lost connection, and how long a server may be silent.

import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { Heartbeat } from "./gen/stepwire/v1/run_service_pb.js";

const { UNAVAILABLE, CANCELLED, UNKNOWN, INTERNAL, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED } = grpc.status;

/**
 * Say whether a call that ended with `error` was cut: its connection is lost, and another one may help.
 * Errors of the server carry its reason. A status without one comes from a proxy or from gRPC itself.
 */
export function lost(error: unknown): boolean {
  const { code, metadata } = error as Partial<grpc.ServiceError>;
  if (code === UNAVAILABLE || code === CANCELLED) return true;
  if (![UNKNOWN, INTERNAL, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED].includes(code!)) return false;
  const [details] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!(details instanceof Buffer)) return true;
  return !fromBinary(StatusSchema, details).details.some(
    ({ typeUrl, value }) =>
      typeUrl.endsWith(`/${ErrorInfoSchema.typeName}`) && fromBinary(ErrorInfoSchema, value).domain === "stepwire",
  );
}

/**
 * Cancels a stream whose server sends nothing, not even heartbeats. A proxy may keep the connection of a dead server
 * open, and answer pings, for ever.
 */
export class Silence {
  #interval = 15; // seconds: the server's default, until it says otherwise
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly cancel: () => void) {}

  /** Begin to count: two heartbeats may be missing, and the next one may be late. */
  wait(): void {
    const limit = 2 * this.#interval + Math.max(2, this.#interval / 3);
    this.#timer = setTimeout(this.cancel, limit * 1000);
  }

  /** Stop the count. What the caller does with a frame takes as long as it takes. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Learn when the next heartbeat comes. */
  take({ interval }: Heartbeat): void {
    const seconds = Number(interval?.seconds ?? 0) + (interval?.nanos ?? 0) / 1e9;
    if (seconds > 0) this.#interval = seconds;
  }
}
