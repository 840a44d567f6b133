// Methods by name, and statuses as error objects.

import { type DescMethod, type DescService, fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type * as grpc from "@grpc/grpc-js";

import { Code } from "../gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../gen/google/rpc/status_pb.js";
import { RunService } from "../gen/stepwire/v1/run_service_pb.js";
import { SnapshotService } from "../gen/stepwire/v1/snapshot_service_pb.js";
import { StateService } from "../gen/stepwire/v1/state_service_pb.js";
import { WorkflowService } from "../gen/stepwire/v1/workflow_service_pb.js";
import type { JsonObject } from "./pattern.js";

const services: { [name: string]: DescService } = { RunService, SnapshotService, StateService, WorkflowService };

/** Find `Service.Method`; the path is good for methods that are not there, too. */
export function methodOf(name: string): { path: string; method: DescMethod | undefined } {
  const [service = "", method = ""] = name.split(".");
  const found = services[service]?.methods.find((candidate) => candidate.name === method);
  return { path: `/stepwire.v1.${service}/${method}`, method: found };
}

export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

export function errorOf(error: grpc.ServiceError): JsonObject {
  const details = error.metadata.get("grpc-status-details-bin")[0];
  if (details instanceof Buffer) return errorObject(fromBinary(StatusSchema, details));
  return { ...nothing(), code: Code[error.code]!, message: error.details };
}

export function errorObject(status: Status): JsonObject {
  const found: JsonObject = { ...nothing(), code: Code[status.code] ?? String(status.code), message: status.message };
  for (const packed of status.details) {
    const info = anyUnpack(packed, ErrorInfoSchema);
    const bad = anyUnpack(packed, BadRequestSchema);
    const retry = anyUnpack(packed, RetryInfoSchema);
    if (info) Object.assign(found, { reason: info.reason, domain: info.domain, metadata: { ...info.metadata } });
    if (bad) found["violations"] = bad.fieldViolations.map((violation) => violation.field);
    if (retry?.retryDelay) {
      found["retryMs"] = Number(retry.retryDelay.seconds) * 1000 + retry.retryDelay.nanos / 1e6;
    }
  }
  return found;
}

const nothing = (): JsonObject => ({ reason: "", domain: "", metadata: {}, violations: [], retryMs: 0 });
