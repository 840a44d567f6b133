// What happened when: one line for each step, a bar for each attempt, a mark for each event that it made.
// An event costs its own mark. All is drawn anew only when the axis must grow, which each time takes longer to come.

import { h, show, svg } from "../dom.js";
import { clock, ended, many, span } from "../format.js";
import { Attempts, childText, kindClass } from "../parts/attempts.js";
import { Scale } from "../parts/scale.js";

const LEFT = 150; // at most, for the longest name of a step
const LETTER = 8; // pixels of one of its letters
const RIGHT = 44;
const LINE = 34;
const MARKS = 4000; // entries drawn, the newest
const BEYOND = 1000; // entries drawn more before the oldest go
const ROOM = 1.25; // how far the axis of a run at work reaches: to this much of its age
const IDLE = 10_000; // milliseconds after which a run that waits is drawn shorter than it waits
const RESTING = new Set(["RUN_STATUS_WAITING", "RUN_STATUS_PAUSED", "RUN_STATUS_BLOCKED"]);
const FAILURES = 100; // listed at most, the newest

const kindOf = (entry) => (entry.kind ?? "").replace("ENTRY_KIND_", "").toLowerCase();

export function timelinePanel(body, model, signal) {
  const picture = h("div", { class: "timeline", tabindex: "0", role: "region", "aria-label": "Timeline" });
  const told = h("p", { class: "quiet" });
  const failures = h("section", null);
  show(body, told, picture, failures);
  let drawn = null;

  const wide = () => Math.max(640, (picture.clientWidth || 900) - 18);
  const known = () => model.dropped + model.entries.length;

  /** The time up to which the run is known: its end, or now; its own clock may be ahead of the reader's. */
  function reached() {
    if (ended(model.run.status)) return Date.parse(model.run.endedAt);
    return Math.max(Date.now(), Date.parse(model.entries.at(-1)?.time ?? model.run.createdAt));
  }

  function fits() {
    if (!drawn || drawn.over !== ended(model.run.status) || drawn.width !== wide() || drawn.workflow !== model.workflow) return false;
    if (drawn.resting && drawn.next !== known()) return false;
    return known() - drawn.from <= MARKS + BEYOND && reached() <= drawn.end;
  }

  /** When nothing happened: until something came from outside, or an attempt was due again. */
  function waitsIn(entries) {
    const waits = [];
    entries.forEach((entry, index) => {
      const again = entry.execution?.status === "EXECUTION_STATUS_STARTED" && entry.execution.attempt > 1;
      if (index && (again || entry.kind === "ENTRY_KIND_RECEIVED")) waits.push([Date.parse(entries[index - 1].time), Date.parse(entry.time)]);
    });
    return waits;
  }

  /** Begin a picture: axis and lanes, without marks. */
  function begin() {
    const entries = model.entries.slice(-MARKS);
    const first = Date.parse(entries[0]?.time ?? model.run.createdAt);
    const over = ended(model.run.status);
    const end = Math.max(over ? reached() : Math.max(first + (reached() - first) * ROOM, reached() + 1000), first + 1);
    const last = Date.parse(entries.at(-1)?.time ?? model.run.createdAt);
    const resting = !over && RESTING.has(model.run.status) && reached() - last > IDLE;
    const scale = new Scale(first, end, [...waitsIn(entries), ...(resting ? [[last, end]] : [])]);
    const lanes = new Map([["outside", 0]]);
    for (const step of model.workflow?.steps ?? []) lanes.set(step.name, lanes.size);
    for (const entry of entries) if (!lanes.has(entry.step || "outside")) lanes.set(entry.step || "outside", lanes.size);
    const width = wide();
    const high = lanes.size * LINE + 34 + (scale.cuts.length ? 16 : 0);
    const left = Math.min(LEFT, 24 + LETTER * Math.max(...[...lanes.keys()].map((name) => name.length)));
    const x = (time) => left + scale.of(time) * (width - left - RIGHT);
    const ticks = Array.from({ length: 6 }, (_, index) => scale.at(index / 5));
    const [bars, waits, dots] = ["bars", "waits", "dots"].map((name) => svg("g", { class: name }));
    const root = svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img" },
      scale.cuts.map(({ from, to }) => svg("g", { class: "cut" }, svg("rect", { x: x(from), y: 0, width: x(to) - x(from), height: lanes.size * LINE + 8 }), svg("text", { x: (x(from) + x(to)) / 2, y: high - 24, class: "tick-label" }, to === end && resting ? "waits" : `${span(to - from)} later`))),
      ticks.map((time) => svg("g", null, svg("line", { x1: x(time), x2: x(time), y1: 0, y2: lanes.size * LINE + 10, class: "tick" }), svg("text", { x: x(time), y: high - 8, class: "tick-label" }, `+${span(time - first) || "0"}`))),
      [...lanes].map(([name, index]) => svg("g", null, svg("line", { x1: left, x2: width - RIGHT, y1: index * LINE + 20, y2: index * LINE + 20, class: "lane" }), svg("text", { x: left - 12, y: index * LINE + 24, class: "lane-label" }, name.length > 20 ? `${name.slice(0, 19)}…` : name, svg("title", null, name)))),
      bars, waits, dots);
    drawn = { begin: first, end, over, resting, width, workflow: model.workflow, lanes, x, root, waits, bars, dots, from: known() - entries.length, next: known() - entries.length, events: 0, attempts: new Attempts(), rects: new Map(), open: new Set(), asked: new Map(), run: null };
    show(failures);
    show(picture, root);
  }

  /** Mark the entries that are not in the picture; returns whether it has a lane for each. */
  function mark() {
    const fresh = document.createDocumentFragment();
    for (; drawn.next < known(); drawn.next++) {
      const entry = model.entries[drawn.next - model.dropped];
      if (!drawn.lanes.has(entry.step || "outside")) return false;
      if (entry.execution) drawn.attempts.take(entry).forEach(bar);
      else {
        drawn.events += 1;
        fresh.append(dot(entry));
        if (entry.role === "EVENT_ROLE_INPUT_REQUIRED") drawn.asked.set(entry.step, entry.time);
      }
    }
    drawn.dots.append(fresh);
    return true;
  }

  function dot(entry) {
    const kind = kindOf(entry);
    const place = { cx: drawn.x(Date.parse(entry.time)), cy: drawn.lanes.get(entry.step || "outside") * LINE + 20 };
    return svg("circle", { ...place, r: kind === "terminal" ? 7 : 4.5, class: `dot ${kindClass(entry)}` }, svg("title", null, `${entry.sequence} ${entry.child ? `child ${childText(entry)}` : entry.type} (${kind}) at ${clock(entry.time)}`));
  }

  /** Draw an attempt, or change its bar into what is known of it now. */
  function bar(attempt) {
    let rect = drawn.rects.get(attempt);
    if (!rect) {
      rect = svg("rect", { x: drawn.x(attempt.begin), y: drawn.lanes.get(attempt.step) * LINE + 10, height: 20, rx: 2 }, svg("title"));
      drawn.rects.set(attempt, rect);
      drawn.bars.append(rect);
    }
    const open = attempt.end === null;
    rect.setAttribute("class", `attempt ${attempt.tone}`);
    rect.firstChild.textContent = `${attempt.text}${open ? `, since ${clock(new Date(attempt.begin).toISOString())}` : ""}`;
    if (open) drawn.open.add(attempt);
    else {
      drawn.open.delete(attempt);
      stretch(attempt, attempt.end);
    }
    if (attempt.tone === "bad") fail(attempt);
  }

  function stretch(attempt, end) {
    drawn.rects.get(attempt).setAttribute("width", Math.max(5, drawn.x(end) - drawn.x(attempt.begin)));
  }

  function fail(attempt) {
    if (!failures.firstChild) show(failures, h("h2", null, "Attempts that failed"), h("ul", { class: "failures" }));
    failures.lastChild.append(h("li", null, h("span", { class: "mono quiet" }, clock(new Date(attempt.end).toISOString())), " ", attempt.text));
    if (failures.lastChild.children.length > FAILURES) failures.lastChild.firstChild.remove();
  }

  /** Draw what goes on: attempts that have not ended, and open questions. */
  function goOn(now) {
    for (const attempt of drawn.open) stretch(attempt, now);
    if (drawn.run !== model.run) {
      drawn.run = model.run;
      const waiters = (model.run.pendingWaiters ?? []).filter((each) => !each.runId && drawn.lanes.has(each.step || "outside"));
      show(drawn.waits, waiters.map((waiter) => svg("rect", { x: drawn.x(Date.parse(drawn.asked.get(waiter.step) ?? model.run.updatedAt)), y: drawn.lanes.get(waiter.step || "outside") * LINE + 10, height: 20, rx: 2, class: "bar waiting" }, svg("title", null, `waits for ${waiter.eventType}`))));
    }
    for (const rect of drawn.waits.children) rect.setAttribute("width", Math.max(3, drawn.x(now) - Number(rect.getAttribute("x"))));
  }

  function paint() {
    if (signal.aborted || !model.run) return;
    if (!fits()) begin();
    if (!mark()) {
      begin();
      mark();
    }
    const now = reached();
    goOn(now);
    const said = `${many(drawn.events, "event")} and ${many(drawn.attempts.size, "attempt")}`;
    const over = span(now - drawn.begin);
    drawn.root.setAttribute("aria-label", `Timeline of ${said} over ${over}`);
    told.textContent = `${said} at steps over ${over}${drawn.from ? `: the newest ${drawn.next - drawn.from}` : ""}`;
  }

  let planned = false;
  const plan = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      paint();
    });
  };
  model.listeners.add(plan);
  paint();
  // What has not ended grows while nothing happens.
  const clockwork = setInterval(() => { if (model.run && !ended(model.run.status)) plan(); }, 1000);
  signal.addEventListener("abort", () => clearInterval(clockwork));
}
