// Methods by name, and errors as error objects.

import { type DescMethod, type DescMethodUnary, type DescService, create } from "@bufbuild/protobuf";
import { type Empty, EmptySchema } from "@bufbuild/protobuf/wkt";

import type { StepwireError } from "@stepwire/client/node";
import { Code } from "@stepwire/client/gen/google/rpc/code_pb";
import { RunService } from "@stepwire/client/gen/stepwire/v1/run_service_pb";
import { ScheduleService } from "@stepwire/client/gen/stepwire/v1/schedule_service_pb";
import { SnapshotService } from "@stepwire/client/gen/stepwire/v1/snapshot_service_pb";
import { StateService } from "@stepwire/client/gen/stepwire/v1/state_service_pb";
import { WorkflowService } from "@stepwire/client/gen/stepwire/v1/workflow_service_pb";

import { type JsonObject, Mismatch } from "./pattern.js";

const services: { [name: string]: DescService } = {
  RunService, ScheduleService, SnapshotService, StateService, WorkflowService,
};

/** Find `Service.Method`. */
export function methodOf(name: string): DescMethod {
  const [service = "", method = ""] = name.split(".");
  const found = services[service]?.methods.find((candidate) => candidate.name === method);
  if (!found) throw new Mismatch(`there is no ${name}`);
  return found;
}

/** Return a method, which need not be there, that takes bytes: an unknown field of the empty message holds them. */
export function rawMethod(
  name: string,
  bytes: Uint8Array,
): { method: DescMethodUnary<typeof EmptySchema, typeof EmptySchema>; request: Empty } {
  const [service = "", method = ""] = name.split(".");
  const like = services[service]!.methods.find(({ methodKind }) => methodKind === "unary") as DescMethodUnary;
  const request = create(EmptySchema);
  if (bytes.length > 0) {
    const tag = bytes[0]!;
    request.$unknown = [{ no: tag >> 3, wireType: tag & 7, data: bytes.subarray(1) }];
  }
  return { method: { ...like, name: method, input: EmptySchema, output: EmptySchema }, request };
}

/** Return the error object of a call or a send that failed. */
export function errorOf(error: StepwireError): JsonObject {
  const { code, reason, metadata, violations, retryAfter } = error;
  const message = (error.cause as { rawMessage: string }).rawMessage;
  const fields = violations.map(({ field }) => field);
  const domain = reason && "stepwire";
  return { code: Code[code]!, reason, domain, metadata, violations: fields, retryMs: retryAfter, message };
}
