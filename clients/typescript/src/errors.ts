// What a call fails with.

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { type Outcome, RunStatus } from "./gen/stepwire/v1/types_pb.js";
import type { Reason } from "./reasons.js";

/** A field of a request that the server refused, and why. */
export type Violation = { field: string; description: string };

/** A call that failed. */
export class StepwireError extends Error {
  override readonly name: string = "StepwireError";
  /** The server's word for the fault; "" when a proxy or the network made the error. */
  readonly reason: Reason = "";
  /** Facts about the fault, such as run_id. */
  readonly metadata: { [name: string]: string } = {};
  /** The fields of the request that were refused. */
  readonly violations: Violation[] = [];
  /** Milliseconds that the server asks to wait before a repeat. */
  readonly retryAfter: number = 0;
  /** The gRPC status, such as Code.NotFound. */
  readonly code: Code;

  constructor(error: ConnectError) {
    super(error.rawMessage, { cause: error });
    this.code = error.code;
    for (const info of error.findDetails(ErrorInfoSchema)) {
      if (info.domain === "stepwire") [this.reason, this.metadata] = [info.reason, info.metadata];
    }
    for (const bad of error.findDetails(BadRequestSchema)) {
      this.violations = bad.fieldViolations.map(({ field, description }) => ({ field, description }));
    }
    for (const { retryDelay } of error.findDetails(RetryInfoSchema)) {
      this.retryAfter = retryDelay ? durationMs(retryDelay) : 0;
    }
    const untold = this.violations.filter(({ description }) => !error.rawMessage.includes(description));
    const fields = untold.map(({ field, description }) => `\n  ${field}: ${description}`);
    this.message = (this.reason ? `${this.reason}: ` : "") + error.rawMessage + fields.join("");
  }

  /** Return anything that a call threw as a StepwireError. */
  static from(thrown: unknown): StepwireError {
    return thrown instanceof StepwireError ? thrown : new StepwireError(ConnectError.from(thrown));
  }

  /** Return the error of an argument that no request can hold, as the server words those that a request can. */
  static refused(field: string, description: string, cause: unknown): StepwireError {
    const info = { desc: ErrorInfoSchema, value: { reason: "INVALID_REQUEST", domain: "stepwire" } };
    const bad = { desc: BadRequestSchema, value: { fieldViolations: [{ field, description }] } };
    return new StepwireError(new ConnectError(`The request is not valid: ${field}: ${description}`, Code.InvalidArgument, undefined, [info, bad], cause));
  }

  /** Return a google.rpc.Status, such as that of a refused send. */
  static fromStatus({ code, message, details }: Status): StepwireError {
    const error = new ConnectError(message, code);
    error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.split("/").pop()!, value }));
    return new StepwireError(error);
  }

  /**
   * Whether the call was cut, so that another connection may help. Errors of the server carry a reason; those without
   * one come from a proxy or from the network.
   */
  get lost(): boolean {
    if (this.code === Code.Unavailable || this.code === Code.Canceled) return true;
    // Connect makes ABORTED of a connection that was reset. The server's own ABORTED always has a reason.
    const cuts = [Code.Unknown, Code.Internal, Code.ResourceExhausted, Code.DeadlineExceeded, Code.Aborted];
    return cuts.includes(this.code) && this.reason === "";
  }
}

/** A run that ended without a result. */
export class RunError extends Error {
  override readonly name = "RunError";

  constructor(
    readonly runId: string,
    readonly outcome: Outcome,
  ) {
    const how = RunStatus[outcome.status]!.toLowerCase().replaceAll("_", " ");
    const { failure, reason } = outcome;
    const why = failure ? ` in step ${failure.step}: ${failure.errorType}: ${failure.message}` : reason && `: ${reason}`;
    super(`run ${runId}: ${how}${why}`);
  }
}

export { Code, type Reason };
