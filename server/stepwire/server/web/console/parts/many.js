// What can be done with many runs: with those that are selected, and with all that match.

import { may } from "../access.js";
import { call, requestId, stream } from "../api.js";
import { confirm, h, show, toast } from "../dom.js";
import { blocked, ended, endedBadly, paused } from "../format.js";

const REASON = "by the console";
const GROUP = 8; // calls under way at the same time

/** The actions: their words, the scope that they need, the runs that they can be done with, and the calls that do them. */
export const ACTIONS = [
  { name: "cancel", verb: "Cancel", scope: "write", what: "Their steps are stopped; what they did stays.", takes: (run) => !ended(run.status), one: (runId) => call("RunService/CancelRun", { runId, reason: REASON }), all: { reason: REASON } },
  { name: "retry", verb: "Retry", scope: "write", what: "Each goes on in a new run, from what failed. Those that were retried stay as they are.", takes: (run) => endedBadly(run.status), one: (runId) => call("RunService/RetryRun", { runId, requestId: requestId() }), all: {} },
  { name: "pause", verb: "Pause", scope: "write", what: "Nothing new starts in them until they are resumed; input is kept.", takes: (run) => !ended(run.status) && !paused(run) && !blocked(run.status), one: (runId) => call("RunService/PauseRun", { runId, reason: REASON }), all: { reason: REASON } },
  { name: "resume", verb: "Resume", scope: "write", what: "They go on where they were.", takes: (run) => paused(run), one: (runId) => call("RunService/ResumeRun", { runId }), all: {} },
  { name: "delete", verb: "Delete", scope: "admin", what: "Their logs and snapshots are removed.", takes: (run) => ended(run.status), one: (runId) => call("RunService/DeleteRun", { runId }), all: {} },
];

const count = (many) => `${many} run${many === 1 ? "" : "s"}`;

/** Do something with each of these runs; call `after` with each that was done. Resolves once all are. */
async function each(action, runs, after) {
  let failed = 0;
  for (let begin = 0; begin < runs.length; begin += GROUP) {
    const group = runs.slice(begin, begin + GROUP);
    const done = await Promise.allSettled(group.map((run) => action.one(run.runId)));
    for (const [index, result] of done.entries()) {
      if (result.status === "rejected") {
        failed += 1;
        if (failed === 1) toast(result.reason.message, "error");
      } else after(group[index]);
    }
  }
  toast(`${action.verb}: ${runs.length - failed} done${failed ? `, ${failed} failed` : ""}`, failed ? "error" : "info");
}

/** Buttons for the selected runs that have at least one of them. `after` is called with (action, run), then `finish`. */
export function selectedActions(runs, after, finish) {
  return ACTIONS.map((action) => {
    const taken = runs.filter((run) => action.takes(run) && may(action.scope, run.workflow));
    if (!taken.length) return null;
    const act = async () => {
      if (!(await confirm(`${action.verb} ${count(taken.length)}?`, action.what, `${action.verb} ${count(taken.length)}`))) return;
      await each(action, taken, (run) => after(action, run));
      finish();
    };
    return h("button", { type: "button", class: action.name === "delete" ? "danger" : null, onclick: act }, `${action.verb} ${taken.length}`);
  });
}

/** Count the runs that match a filter, ask, then do something with all of them; show how far it is. */
async function everything(action, filter, place, signal) {
  const request = { filter, [action.name]: action.all };
  let counted = {};
  for await (const answer of stream("RunService/ApplyToRuns", { ...request, dryRun: true }, signal)) counted = answer;
  const many = Number(counted.done ?? 0);
  if (!many) return toast(`No run to ${action.name}`);
  if (!(await confirm(`${action.verb} ${counted.more ? "the newest " : "all "}${count(many)}?`, action.what, `${action.verb} ${count(many)}`))) return;
  const bar = h("progress", { max: String(Number(counted.matched)), value: 0, "aria-label": `${action.verb} ${count(many)}` });
  show(place, bar);
  let last = {};
  let token = "";
  let cuts = 0;
  while (!last.finished) {
    try {
      for await (const answer of stream("RunService/ApplyToRuns", { ...request, resumeToken: token }, signal)) {
        last = answer;
        token = answer.resumeToken ?? token;
        bar.value = Number(answer.matched ?? 0);
        cuts = 0;
      }
    } catch (error) {
      cuts += 1;
      if (error.code !== "unavailable" || cuts > 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  const refused = Number(last.refused ?? 0);
  toast(`${action.verb}: ${Number(last.done ?? 0)} done${refused ? `, ${refused} refused: ${last.refusals?.[0]?.error?.message ?? ""}` : ""}${last.more ? "; there are more" : ""}`, refused ? "error" : "info");
}

/** A menu that acts on all runs that match the filter of the page. */
export function matchingActions(filter, finish, signal) {
  const place = h("span");
  const choose = h("select", { "aria-label": "Act on all runs that match", onchange: act }, h("option", { value: "" }, "All that match…"), ACTIONS.filter((action) => may(action.scope, filter.workflow || undefined)).map((action) => h("option", { value: action.name }, action.verb)));
  async function act() {
    const action = ACTIONS.find((each) => each.name === choose.value);
    choose.value = "";
    if (!action) return;
    choose.disabled = true;
    try {
      await everything(action, filter, place, signal);
      finish();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "error");
    } finally {
      choose.disabled = false;
      show(place);
    }
  }
  return h("span", { class: "matching" }, choose, place);
}
