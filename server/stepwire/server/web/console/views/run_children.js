// The runs that the steps of a run have started, as a tree that unfolds.

import { call } from "../api.js";
import { arrange, h, show, update } from "../dom.js";
import { ago, many, moment, shortId, span } from "../format.js";
import { badge } from "../parts/badge.js";
import { poll } from "../parts/poll.js";

const PAGE = 200;
const REFRESH = 2500;
const COUNTS = [["unfinished", "unfinished"], ["queued", "of them queued"], ["completed", "completed"], ["failed", "failed"], ["cancelled", "cancelled"], ["timedOut", "timed out"]];

/** Say how many children there are and what became of them: "3 runs: 1 unfinished, 2 completed". */
export function childrenText(children) {
  const parts = COUNTS.filter(([name]) => children[name]).map(([name, text]) => `${children[name]} ${text}`);
  return `${many(children.total ?? 0, "run")}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

/** Show the children in a place, and keep them as they are. */
export function childrenPanel(place, model, signal) {
  const told = h("p", { class: "quiet", role: "status" });
  const list = branch(model.runId, signal);
  const card = h("div", { class: "card", hidden: true }, list.element);
  show(place, told, card);
  const paint = () => {
    const children = model.run?.children;
    card.hidden = !children;
    told.textContent = children ? childrenText(children) : "No step of this run has started a run.";
  };
  model.listeners.add(paint);
  paint();
}

/** The children of one run; those that have children of their own unfold. */
function branch(parentRunId, signal) {
  const element = h("ul", { class: "descent" });
  const rows = new Map();
  async function refresh() {
    const page = await call("RunService/ListRuns", { parentRunId, pageSize: PAGE }, signal);
    const runs = (page.runs ?? []).reverse();
    for (const run of runs) {
      const row = rows.get(run.runId) ?? child(run.runId, signal);
      rows.set(run.runId, row);
      row.set(run);
    }
    const more = page.nextPageToken ? h("li", null, h("a", { href: `/runs?parent=${encodeURIComponent(parentRunId)}` }, "All of them")) : null;
    arrange(element, [...runs.map((run) => rows.get(run.runId).element), more].filter(Boolean));
  }
  poll(refresh, REFRESH, signal);
  return { element };
}

function child(runId, signal) {
  const line = h("span", { class: "kin" });
  const below = h("div");
  const element = h("li", null, line, below);
  let unfolded = null;
  let shown = "";
  return {
    element,
    set(run) {
      const now = JSON.stringify(run);
      if (now !== shown) {
        shown = now;
        const time = run.endedAt ? `took ${span(Date.parse(run.endedAt) - Date.parse(run.createdAt))}` : ago(run.createdAt);
        update(line, badge(run.status), h("a", { class: "mono", href: `/runs/${encodeURIComponent(runId)}`, title: runId }, shortId(runId)), h("span", null, run.workflow), run.parent?.step ? h("span", { class: "quiet" }, `by ${run.parent.step}`) : null, h("span", { class: "quiet", title: moment(run.createdAt) }, time), run.outcome?.failure ? h("span", { class: "problem" }, run.outcome.failure.errorType) : null);
      }
      if (run.children && !unfolded) {
        const inner = h("div");
        const summary = h("summary", null, childrenText(run.children));
        let folding = null; // a branch asks the server only while it is open
        const toggle = () => {
          folding?.abort();
          folding = new AbortController();
          if (unfolded.open) show(inner, branch(runId, AbortSignal.any([signal, folding.signal])).element);
        };
        unfolded = h("details", { ontoggle: toggle }, summary, inner);
        unfolded.summary = summary;
        show(below, unfolded);
      } else if (run.children) unfolded.summary.textContent = childrenText(run.children);
    },
  };
}
