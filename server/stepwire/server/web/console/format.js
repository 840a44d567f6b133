// Show times, sizes and statuses.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Return a span of milliseconds as its two largest units, such as "2 h 5 min". */
export function span(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (milliseconds < 10000) return `${(milliseconds / 1000).toFixed(1)} s`;
  let seconds = Math.floor(milliseconds / 1000);
  const parts = [];
  for (const [unit, size] of UNITS) {
    if (seconds >= size && parts.length < 2) {
      parts.push(`${Math.floor(seconds / size)} ${unit}`);
      seconds %= size;
    } else if (parts.length) break;
  }
  return parts.join(" ");
}

/** Return how long ago a timestamp of the contract was. */
export function ago(time, now = Date.now()) {
  if (!time) return "";
  const past = now - Date.parse(time);
  return past < 1000 ? "just now" : `${span(past)} ago`;
}

/** Return a count with its noun: "1 run", "2 runs". */
export function many(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Return how far ahead a timestamp of the contract is. */
export function ahead(time, now = Date.now()) {
  const left = Date.parse(time) - now;
  return left < 1000 ? "now" : `in ${span(left)}`;
}

/** Return a timestamp in the reader's zone, to the second. */
export function moment(time) {
  return time ? new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "";
}

/** Return a timestamp in a time zone, which it names unless it is the reader's. */
export function momentIn(time, zone) {
  if (!zone || zone === Intl.DateTimeFormat().resolvedOptions().timeZone) return moment(time);
  try {
    return `${new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short", timeZone: zone })} in ${zone.split("/").at(-1).replaceAll("_", " ")}`;
  } catch {
    return moment(time); // a zone that the browser does not know
  }
}

/** Return the time of day of a timestamp, to the millisecond. */
export function clock(time) {
  const date = new Date(time);
  return `${date.toLocaleTimeString(undefined, { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Return a size in bytes for people. */
export function bytes(count) {
  const size = Number(count);
  return size < 1024 ? `${size} B` : size < 1048576 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1048576).toFixed(1)} MiB`;
}

/** Return a duration of the contract ("45s") in milliseconds; null when unset. */
export function duration(text) {
  return text ? Number.parseFloat(text) * 1000 : null;
}

// Each status has a shape as well as a colour.
const STATUSES = {
  QUEUED: ["○", "queued", "neutral"],
  RUNNING: ["▶", "running", "active"],
  WAITING: ["◔", "waiting", "waiting"],
  BLOCKED: ["■", "blocked", "bad"],
  PAUSED: ["‖", "paused", "neutral"],
  COMPLETED: ["✓", "completed", "good"],
  FAILED: ["✕", "failed", "bad"],
  CANCELLED: ["⊘", "cancelled", "neutral"],
  TIMED_OUT: ["◷", "timed out", "bad"],
};
export const STATUS_NAMES = Object.keys(STATUSES);
const ENDED_BADLY = new Set(["FAILED", "CANCELLED", "TIMED_OUT"]);
const ENDED = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);

/** Return [shape, text, tone] of a run status of the contract. */
export function status(name) {
  const short = (name ?? "").replace("RUN_STATUS_", "");
  return STATUSES[short] ?? ["·", short.toLowerCase().replaceAll("_", " ") || "unknown", "neutral"];
}

/** Say whether a status is terminal. */
export function ended(name) {
  return ENDED.has((name ?? "").replace("RUN_STATUS_", ""));
}

/** Say whether a run with this status can be retried. */
export function endedBadly(name) {
  return ENDED_BADLY.has((name ?? "").replace("RUN_STATUS_", ""));
}

/** Say whether a status is that of a run that the served code cannot go on with. */
export function blocked(name) {
  return name === "RUN_STATUS_BLOCKED";
}

/** Say whether a run is paused by itself, rather than with its workflow. */
export function paused(run) {
  return run.pause !== undefined && !run.pause.workflow;
}

/** Return an id short enough for a table: one that the server made says no more than its beginning. */
export function shortId(id) {
  return /^[0-9a-f]{32}$/.test(id) ? `${id.slice(0, 12)}…` : id.length > 40 ? `${id.slice(0, 38)}…` : id;
}
