// Attempts at steps, as the log tells of them: entries of kind EXECUTION.

import { clock, duration, span } from "../format.js";

const WORDS = { STARTED: "started", FINISHED: "finished", FAILED: "failed", TIMED_OUT: "timed out", CANCELLED: "cancelled", LOST: "lost to a crash" };
const TONES = { STARTED: "active", FINISHED: "good", FAILED: "bad", TIMED_OUT: "bad", CANCELLED: "neutral", LOST: "bad" };

const statusOf = (execution) => (execution.status ?? "").replace("EXECUTION_STATUS_", "");

/** Return what an entry tells of an attempt: "charge failed, attempt 2, after 0.2 s: Down: refused". */
export function attemptText(entry) {
  const execution = entry.execution;
  const took = duration(execution.duration);
  const parts = [`${entry.step} ${WORDS[statusOf(execution)] ?? statusOf(execution).toLowerCase()}`];
  if ((execution.attempt ?? 0) > 1 || execution.error) parts.push(`attempt ${execution.attempt}`);
  if (took !== null) parts.push(`after ${span(took)}`);
  if (execution.nextAttemptAt) parts.push(`the next at ${clock(execution.nextAttemptAt)}`);
  return parts.join(", ") + (execution.error ? `: ${errorText(execution.error)}` : "");
}

/** Return what an entry tells of a child: "count started". */
export function childText(entry) {
  const status = (entry.child.status ?? "").replace("RUN_STATUS_", "");
  return `${entry.child.workflow} ${status === "RUNNING" ? "started" : status.toLowerCase().replaceAll("_", " ")}`;
}

const BAD_ENDS = new Set(["WorkflowFailedEvent", "WorkflowTimedOutEvent", "WorkflowCancelledEvent"]);

/** Return the classes of a mark of an entry: its kind, and whether a run ended badly with it. */
export function kindClass(entry) {
  return `kind-${(entry.kind ?? "").replace("ENTRY_KIND_", "").toLowerCase()}${BAD_ENDS.has(entry.type) ? " bad" : ""}`;
}

/** Say whether an entry tells of an attempt that came to nothing. */
export function hasFailed(entry) {
  return entry.execution !== undefined && TONES[statusOf(entry.execution)] === "bad";
}

/** Return an error on a line: "Down: refused". */
export function errorText(failure) {
  return [failure.errorType, failure.message].filter(Boolean).join(": ");
}

/**
 * Joins the entries of a log into attempts: {step, attempt, begin, end, tone, text}. `end` is null while the attempt goes
 * on; `text` is what became of it. An attempt whose start is not in the entries begins where its duration says.
 */
export class Attempts {
  #found = new Map();

  get size() {
    return this.#found.size;
  }

  /** Take in an entry of kind EXECUTION; returns the attempts that it tells of. */
  take(entry) {
    const { deliveryId, attempt, status, duration: took } = entry.execution;
    const at = Date.parse(entry.time);
    const of = (number) => this.#found.get(`${deliveryId}/${number}`);
    const known = of(attempt) ?? { step: entry.step, attempt, begin: at - (duration(took) ?? 0), end: null };
    this.#found.set(`${deliveryId}/${attempt}`, known);
    const short = statusOf({ status });
    const ends = short === "STARTED" ? { begin: at, end: null } : { end: at };
    Object.assign(known, ends, { tone: TONES[short] ?? "neutral", text: attemptText(entry) });
    const before = short === "STARTED" ? of(attempt - 1) : null;
    if (!before || before.end !== null) return [known];
    Object.assign(before, { end: at, tone: "waiting", text: `${entry.step} waited, and began again` });
    return [before, known];
  }
}
