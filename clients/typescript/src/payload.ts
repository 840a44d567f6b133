// What callers give, as messages hold it.

import { create } from "@bufbuild/protobuf";
import { type Duration, type Timestamp, durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";

import { StepwireError } from "./errors.js";
import { type Payload, PayloadSchema } from "./gen/stepwire/v1/types_pb.js";

/** Encode a document as exact JSON. Throws StepwireError that names the field if JSON cannot hold it. */
export function toPayload(document: unknown, field = "value"): Payload {
  // Of undefined JSON.stringify makes no string, so toString throws.
  const text = held(field, "must be a value that JSON can hold", () => JSON.stringify(document).toString());
  return create(PayloadSchema, { encoding: { case: "json", value: new TextEncoder().encode(text) } });
}

/** Decode a document; undefined when there is none. */
export function fromPayload(payload: Payload | undefined): any {
  const found = payload?.encoding;
  return found?.case === "json" ? JSON.parse(new TextDecoder().decode(found.value)) : undefined;
}

/** Encode a date. Throws StepwireError. */
export const toTimestamp = (date: Date, field: string): Timestamp =>
  held(field, "must be a valid Date", () => timestampFromDate(date));

/** Encode milliseconds. Throws StepwireError. */
export const toDuration = (milliseconds: number, field: string): Duration =>
  held(field, "must be a finite number of milliseconds", () => durationFromMs(milliseconds));

/** Encode a place in a log. Throws StepwireError. */
export const toSequence = (sequence: number, field: string): bigint =>
  held(field, "must be a whole number", () => BigInt(sequence));

/** Encode what a caller gave for a field, or throw the client's own error: encoders throw bare ones. */
function held<T>(field: string, must: string, encode: () => T): T {
  try {
    return encode();
  } catch (cause) {
    throw StepwireError.refused(field, must, cause);
  }
}
