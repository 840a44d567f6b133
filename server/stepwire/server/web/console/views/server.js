// The server: whether it serves, and how many runs there are by status.

import { call, connection } from "../api.js";
import { h, show, svg } from "../dom.js";
import { status } from "../format.js";
import { poll } from "../parts/poll.js";

const LENGTH = 120; // points of a chart
const OPEN = ["RUNNING", "WAITING", "QUEUED", "BLOCKED"];

export function serverPage(place, _, signal) {
  const health = h("p", { class: "big", role: "status" });
  const charts = h("div", { class: "cards" });
  const history = new Map([...OPEN, "answer"].map((name) => [name, []]));
  show(place, h("div", { class: "page" }, h("div", { class: "title" }, h("h1", null, "Server")), health, charts));

  function chart(name, unit) {
    const points = history.get(name);
    const top = Math.max(1, ...points);
    const line = points.map((value, index) => `${(index / (LENGTH - 1)) * 240},${60 - (value / top) * 54}`).join(" ");
    const [shape, text] = name === "answer" ? ["⇄", "answer time"] : status(name);
    return h("div", { class: "card chart" }, h("h2", null, `${shape} ${text}`), h("p", { class: "big" }, `${points.at(-1) ?? "–"}${unit}`), svg("svg", { viewBox: "0 0 240 62", width: "100%", height: 62, preserveAspectRatio: "none", role: "img", "aria-label": `${text}: ${points.at(-1) ?? "unknown"}${unit}, at most ${top}` }, svg("polyline", { points: line })));
  }

  poll(async () => {
    const began = performance.now();
    let serving = "unknown";
    try {
      await call("WorkflowService/ListWorkflows", { pageSize: 1 }, signal);
      serving = "serving";
    } catch (error) {
      if (error.name === "AbortError") return;
      serving = connection.up ? error.message : "not reachable";
    }
    history.get("answer").push(Math.round(performance.now() - began));
    show(health, serving === "serving" ? "● The server answers" : `▲ ${serving}`);
    for (const name of OPEN) {
      const page = await call("RunService/ListRuns", { statuses: [`RUN_STATUS_${name}`], pageSize: 1000 }, signal).catch(() => null);
      if (page) history.get(name).push((page.runs ?? []).length);
    }
    for (const points of history.values()) if (points.length > LENGTH) points.splice(0, points.length - LENGTH);
    show(charts, [...OPEN.map((name) => chart(name, "")), chart("answer", " ms")]);
  }, 2000, signal);
}
