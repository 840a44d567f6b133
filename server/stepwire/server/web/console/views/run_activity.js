// What a run does now: its active deliveries, with attempts, errors and what comes next.

import { h, show, update } from "../dom.js";
import { ago, moment, shortId, span } from "../format.js";
import { errorText } from "../parts/attempts.js";

const SHOWN = 50;
const KINDS = {
  RUNNING: ["active", "▶ running"],
  BACKING_OFF: ["bad", "✕ failed"],
  PARKED: ["waiting", "◔ waiting"],
  QUEUED: ["neutral", "○ queued"],
};
const ORDER = Object.keys(KINDS);

const kindOf = (delivery) => (delivery.status ?? "").replace("DELIVERY_STATUS_", "");

/** Return [tone, text] for each step of the active deliveries: that of the one that needs attention most, and a count. */
export function activeMarks(deliveries) {
  const marks = new Map();
  const counts = new Map();
  const rank = (kind) => ["BACKING_OFF", "RUNNING", "PARKED", "QUEUED"].indexOf(kind);
  for (const each of deliveries ?? []) {
    const kind = kindOf(each);
    const state = counts.get(each.step) ?? { kind, number: 0, attempt: 0 };
    if (rank(kind) < rank(state.kind)) Object.assign(state, { kind, number: 0, attempt: 0 });
    if (kind === state.kind) {
      state.number += 1;
      state.attempt = Math.max(state.attempt, each.attempt ?? 0);
    }
    counts.set(each.step, state);
  }
  for (const [step, { kind, number, attempt }] of counts) {
    const [tone, text] = KINDS[kind] ?? ["neutral", kind.toLowerCase()];
    const many = number > 1 ? ` ×${number}` : "";
    const again = kind === "BACKING_OFF" ? `, attempt ${attempt}` : kind === "RUNNING" && attempt > 1 ? `, attempt ${attempt}` : "";
    marks.set(step, [tone, `${text}${many}${again}`]);
  }
  return marks;
}

/** Show the active deliveries of the model's run; returns what paints them anew. */
export function activityPanel(place, model) {
  return function paint() {
    const all = model.run?.activeDeliveries ?? [];
    if (!all.length) return show(place);
    const sorted = [...all].sort((first, second) => ORDER.indexOf(kindOf(first)) - ORDER.indexOf(kindOf(second)));
    const rows = sorted.slice(0, SHOWN).map((each) => {
      const [tone, text] = KINDS[kindOf(each)] ?? ["neutral", kindOf(each)];
      const error = each.lastError;
      const next = each.nextAttemptAt ? Date.parse(each.nextAttemptAt) - Date.now() : null;
      return h(
        "tr",
        null,
        h("th", { scope: "row" }, each.step, h("div", { class: "quiet" }, `${each.eventType} ${each.causedBy ?? ""}`), each.runId ? h("a", { class: "mono clip", href: `/runs/${encodeURIComponent(each.runId)}`, title: each.runId }, `child ${shortId(each.runId)}`) : null),
        h("td", null, h("span", { class: `badge ${tone}` }, text)),
        h("td", null, String(each.attempt ?? 0)),
        h("td", { title: moment(each.since) }, each.since ? ago(each.since) : ""),
        h("td", { title: moment(each.nextAttemptAt) }, next === null ? "" : next > 0 ? `in ${span(next)}` : "now"),
        h("td", { class: "error" }, error ? [errorText(error), error.referenceId ? h("div", { class: "quiet mono" }, error.referenceId) : null] : ""),
      );
    });
    const more = all.length - rows.length + (model.run.partial ? 1 : 0);
    return update(
      place,
      h("h2", null, "Steps now"),
      h(
        "div",
        { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Steps now" },
        h("table", { class: "now" }, h("thead", null, h("tr", null, ["Step", "Status", "Attempt", "Since", "Next attempt", "Last error, and its reference in the server's log"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, rows)),
        more > 0 ? h("p", { class: "quiet" }, `and ${all.length - rows.length || "more"} more`) : null,
      ),
    );
  };
}
