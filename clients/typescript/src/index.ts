export { type CallOptions, Client, type Options, type StartOptions } from "./client.js";
export { Conversation } from "./conversation.js";
export { Code, type Reason, RunError, StepwireError, type Violation } from "./errors.js";
export { fromPayload, toPayload } from "./payload.js";
export { type AnyEvent, type EventOptions, NotOpenError, Run, type Sent, type Typed } from "./run.js";
export { Schedule, type ScheduleSpec, type When } from "./schedule.js";
export { type Frame, Frames, GapError } from "./stream.js";
