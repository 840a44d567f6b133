// The server: what it is, who the caller is to it, whether it answers, and how many runs there are by status.

import { caller } from "../access.js";
import { call, connection } from "../api.js";
import { h, show, svg, update } from "../dom.js";
import { moment, span, status } from "../format.js";
import { poll } from "../parts/poll.js";

const LENGTH = 120; // points of a chart
const COUNTED = 1000; // runs of a status that are counted
const OPEN = ["RUNNING", "WAITING", "QUEUED", "BLOCKED"];
const STORES = { sqlite: "SQLite", memory: "in memory: nothing is kept", postgresql: "PostgreSQL" };

export function serverPage(place, _, signal) {
  const health = h("p", { role: "status" });
  const charts = h("div", { class: "cards charts" });
  const about = h("section", { class: "card" }, h("h2", null, "About"));
  const settings = h("section", { class: "card wide" });
  const history = new Map([...OPEN, "answer"].map((name) => [name, []]));
  show(place, h("div", { class: "page" }, h("div", { class: "title" }, h("h1", null, "Server")), health, charts, h("div", { class: "columns" }, about, you()), settings));

  function chart(name, unit) {
    const points = history.get(name);
    const top = Math.max(1, ...points);
    // The line spans the chart from the first look on; one that never changed lies in the middle, whatever its value.
    const flat = points.every((value) => value === points[0]);
    const drawn = points.length === 1 ? [points[0], points[0]] : points;
    const line = drawn.map((value, index) => `${(index / (drawn.length - 1)) * 240},${flat ? 31 : 60 - (value / top) * 54}`).join(" ");
    const [shape, text] = name === "answer" ? ["⇄", "answer time"] : status(name);
    const last = points.length ? `${points.at(-1)}${unit || (points.at(-1) >= COUNTED ? "+" : "")}` : "–";
    return h("div", { class: "card chart" }, h("h2", null, `${shape} ${text}`), h("p", { class: "big" }, last), svg("svg", { viewBox: "0 0 240 62", width: "100%", height: 62, preserveAspectRatio: "none", role: "img", "aria-label": `${text}: ${last}, at most ${top}` }, svg("polyline", { points: line })));
  }

  async function describe() {
    let server;
    try {
      server = await call("ServerService/GetServer", {}, signal);
    } catch (error) {
      if (error.name !== "AbortError") show(about, h("h2", null, "About"), h("p", { class: "quiet" }, error.code === "permission_denied" ? "The scope read is needed to see more of the server." : error.message));
      return;
    }
    const up = Date.parse(server.time) - Date.parse(server.startedAt);
    update(about, h("h2", null, "About"), facts([
      ["Version", `${server.version} on Python ${server.pythonVersion}`],
      ["State", server.unready || "takes work"],
      ["Up", `${span(up)}, since ${moment(server.startedAt)}`],
      ["Runs are kept", STORES[server.store] ?? server.store],
      (server.replicas ?? 1) > 1 ? ["Replicas", server.replicas] : null,
      ["Callers", server.authenticates ? "must authenticate" : "need no credential"],
    ]));
    const rows = Object.entries(server.settings ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
    update(settings, h("h2", null, "Settings"), h("table", null,
      h("thead", null, h("tr", null, ["Setting", "Value"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, rows.map(([name, value]) => h("tr", null, h("td", { class: "mono" }, name), h("td", null, value || h("span", { class: "quiet" }, "not set")))))));
  }

  let looks = 0;
  let countAt = 0;
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
    show(health, h("span", { class: `badge ${serving === "serving" ? "good" : "bad"}` }, serving === "serving" ? "● The server answers" : `▲ ${serving}`));
    if (looks++ % 5 === 0) await describe();
    // Many runs take long to count: then they are counted less often, so that the page costs the server little.
    if (performance.now() >= countAt) {
      const counting = performance.now();
      for (const name of OPEN) {
        const page = await call("RunService/ListRuns", { statuses: [`RUN_STATUS_${name}`], pageSize: COUNTED }, signal).catch(() => null);
        if (page) history.get(name).push((page.runs ?? []).length);
      }
      countAt = performance.now() + 20 * (performance.now() - counting);
    }
    for (const points of history.values()) if (points.length > LENGTH) points.splice(0, points.length - LENGTH);
    update(charts, [...OPEN.map((name) => chart(name, "")), chart("answer", " ms")]);
  }, 2000, signal);
}

/** Say who the caller is. */
function you() {
  const known = caller.scopes !== null;
  return h("section", { class: "card" }, h("h2", null, "You"), known
    ? facts([
        ["Name", caller.principal],
        ["Namespace", caller.namespaces.join(", ")],
        ["Scopes", caller.scopes.length ? h("ul", { class: "times" }, caller.scopes.map((scope) => h("li", { class: "mono" }, scope))) : "none"],
        caller.expiresAt ? ["Credential", `expires ${moment(caller.expiresAt)}`] : null,
      ])
    : h("p", { class: "quiet" }, "The server has not said who you are."));
}

function facts(found) {
  return h("dl", { class: "facts" }, found.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}
