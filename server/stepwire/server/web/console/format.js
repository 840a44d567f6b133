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
  return time ? `${span(now - Date.parse(time))} ago` : "";
}

/** Return a timestamp in the reader's zone, to the second. */
export function moment(time) {
  return time ? new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "";
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
export const STATUS_NAMES = Object.keys(STATUSES).filter((name) => name !== "PAUSED");
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

/** Return an id short enough for a table. */
export function shortId(id) {
  return id.length > 14 ? `${id.slice(0, 12)}…` : id;
}
