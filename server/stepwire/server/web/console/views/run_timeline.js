// What happened when: one line for each step, a mark for each event that it took or made.

import { h, show, svg } from "../dom.js";
import { clock, ended, span } from "../format.js";

const LEFT = 150;
const LINE = 34;
const MARKS = 4000; // drawn at most, the newest

export function timelinePanel(body, model, signal) {
  const picture = h("div", { class: "timeline", tabindex: "0", role: "region", "aria-label": "Timeline" });
  const told = h("p", { class: "quiet", role: "status" });
  show(body, told, picture);
  let planned = false;

  function paint() {
    planned = false;
    if (signal.aborted || !model.run) return;
    const run = model.run;
    const entries = model.entries.slice(-MARKS);
    const begin = Date.parse(entries[0]?.time ?? run.createdAt);
    const end = Math.max(ended(run.status) ? Date.parse(run.endedAt) : Date.now(), begin + 1);
    const lanes = new Map([["outside", 0]]);
    for (const step of model.workflow?.steps ?? []) lanes.set(step.name, lanes.size);
    for (const entry of entries) if (!lanes.has(entry.step || "outside")) lanes.set(entry.step || "outside", lanes.size);
    const width = Math.max(640, (picture.clientWidth || 900) - 18);
    const x = (time) => LEFT + (((typeof time === "number" ? time : Date.parse(time)) - begin) / (end - begin)) * (width - LEFT - 44);
    const high = lanes.size * LINE + 34;
    const ticks = Array.from({ length: 6 }, (_, index) => begin + ((end - begin) * index) / 5);
    const children = [
      ticks.map((time) => svg("g", null, svg("line", { x1: x(time), x2: x(time), y1: 0, y2: high - 24, class: "tick" }), svg("text", { x: x(time), y: high - 8, class: "tick-label" }, `+${span(time - begin) || "0"}`))),
      [...lanes].map(([name, index]) => svg("g", null, svg("line", { x1: LEFT, x2: width - 44, y1: index * LINE + 20, y2: index * LINE + 20, class: "lane" }), svg("text", { x: LEFT - 12, y: index * LINE + 24, class: "lane-label" }, name.length > 20 ? `${name.slice(0, 19)}…` : name, svg("title", null, name)))),
      (run.pendingWaiters ?? []).map((waiter) => {
        const asked = entries.findLast((entry) => entry.step === waiter.step && entry.role === "EVENT_ROLE_INPUT_REQUIRED")?.time;
        const lane = lanes.get(waiter.step || "outside");
        return lane === undefined ? null : svg("rect", { x: x(asked ?? run.updatedAt), y: lane * LINE + 12, width: Math.max(3, width - 44 - x(asked ?? run.updatedAt)), height: 16, rx: 4, class: "bar waiting" }, svg("title", null, `waits for ${waiter.eventType}`));
      }),
      entries.map((entry) => {
        const kind = (entry.kind ?? "").replace("ENTRY_KIND_", "").toLowerCase();
        return svg("circle", { cx: x(entry.time), cy: lanes.get(entry.step || "outside") * LINE + 20, r: kind === "terminal" ? 7 : 4.5, class: `dot kind-${kind}` }, svg("title", null, `${entry.sequence} ${entry.type} (${kind}) at ${clock(entry.time)}`));
      }),
    ];
    show(picture, svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": `Timeline of ${entries.length} events over ${span(end - begin)}` }, children.flat(Infinity).filter(Boolean)));
    told.textContent = `${entries.length} events over ${span(end - begin)}${model.entries.length > MARKS ? `: the newest ${MARKS}` : ""}`;
  }
  const plan = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(paint);
  };
  model.listeners.add(plan);
  paint();
}
