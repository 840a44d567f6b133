// JSON documents on the wire.

import { create } from "@bufbuild/protobuf";

import { type Payload, PayloadSchema } from "./gen/stepwire/v1/types_pb.js";

/** Encode a value as exact JSON. */
export function toPayload(value: unknown): Payload {
  return create(PayloadSchema, { encoding: { case: "json", value: new TextEncoder().encode(JSON.stringify(value)) } });
}

/** Decode a document; undefined when there is none. */
export function fromPayload(payload: Payload | undefined): any {
  const found = payload?.encoding;
  return found?.case === "json" ? JSON.parse(new TextDecoder().decode(found.value)) : undefined;
}
