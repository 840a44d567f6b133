// One run: what it is, what it does, what it asks; its log, its state, its past.

import { call, stream } from "../api.js";
import { confirm, h, show, toast } from "../dom.js";
import { ago, ended, moment, span } from "../format.js";
import { badge, labelTags } from "../parts/badge.js";
import { graph } from "../parts/graph.js";
import { tree } from "../parts/json.js";
import { eventsPanel } from "./run_events.js";
import { questionsPanel } from "./run_questions.js";
import { statePanel } from "./run_state.js";
import { timelinePanel } from "./run_timeline.js";
import { travelPanel } from "./run_travel.js";

const TABS = [["overview", "Overview"], ["timeline", "Timeline"], ["events", "Events"], ["state", "State"], ["travel", "Time travel"]];
const KEPT = 200_000; // entries of the log that are kept in the page; older ones can be read again

export async function runPage(place, [runId], signal) {
  const model = { runId, run: null, workflow: null, entries: [], counts: new Map(), listeners: new Set(), gap: 0 };
  const changed = () => model.listeners.forEach((each) => each());
  const header = h("div", { class: "run-head" });
  const body = h("div", { class: "panel" });
  const tab = new URLSearchParams(location.search).get("tab") ?? "overview";
  const tabs = h("div", { class: "tabs", role: "tablist" }, TABS.map(([name, text]) => h("a", { role: "tab", "aria-selected": String(name === tab), href: `/runs/${encodeURIComponent(runId)}${name === "overview" ? "" : `?tab=${name}`}` }, text)));
  show(place, h("div", { class: "page" }, header, tabs, body));

  try {
    model.run = (await call("RunService/GetRun", { runId }, signal)).run;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.code !== "unavailable") {
      show(place, h("div", { class: "empty" }, h("h1", null, error.reason === "RUN_NOT_FOUND" ? "There is no such run" : "The run cannot be shown"), h("p", null, error.reason === "RUN_NOT_FOUND" ? "It was deleted, or its retention is over." : error.message), h("a", { href: "/runs" }, "All runs")));
      return;
    }
    show(header, h("p", { class: "quiet" }, "Waiting for the server…"));
  }
  call("WorkflowService/GetWorkflow", { name: model.run?.workflow ?? "" }, signal).then((found) => { model.workflow = found.workflow; changed(); }, () => {});

  function paintHeader() {
    const run = model.run;
    if (!run) return;
    const over = ended(run.status);
    const facts = [
      ["Workflow", h("a", { href: `/workflows/${encodeURIComponent(run.workflow)}` }, run.workflow)],
      ["Created", h("time", { datetime: run.createdAt, title: moment(run.createdAt) }, ago(run.createdAt))],
      over ? ["Took", span(Date.parse(run.endedAt) - Date.parse(run.createdAt))] : ["Last change", ago(run.updatedAt)],
      run.timeoutAt && !over ? ["Times out", `in ${span(Date.parse(run.timeoutAt) - Date.now())}`] : null,
      ["Log", `${run.lastSequence ?? 0} entries`],
      run.forkedFrom ? ["Forked from", h("a", { class: "mono", href: `/runs/${encodeURIComponent(run.forkedFrom.runId)}` }, `${run.forkedFrom.runId} at ${run.forkedFrom.sequence ?? 0}`)] : null,
      Object.keys(run.labels ?? {}).length ? ["Labels", labelTags(run.labels)] : null,
    ].filter(Boolean);
    show(
      header,
      h("div", { class: "title" }, h("h1", { class: "mono" }, runId), badge(run.status),
        h("span", { class: "actions" },
          over
            ? h("button", { type: "button", class: "danger", onclick: remove }, "Delete")
            : h("button", { type: "button", onclick: cancel }, "Cancel run"))),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
      run.blockedReason ? h("p", { class: "notice bad" }, "Blocked: ", run.blockedReason, " It goes on when code that fits is served.") : null,
    );
  }

  async function cancel() {
    if (!(await confirm("Cancel this run?", "Its steps are stopped; what they did stays.", "Cancel run"))) return;
    try {
      model.run = (await call("RunService/CancelRun", { runId, reason: "cancelled in the console" })).run;
      changed();
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async function remove() {
    if (!(await confirm("Delete this run?", "Its log and its snapshots are removed.", "Delete"))) return;
    try {
      await call("RunService/DeleteRun", { runId });
      dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: "/runs" } }));
    } catch (error) {
      toast(error.message, "error");
    }
  }

  let planned = false;
  let asking = false;
  let stale = false;
  async function readRun() {
    if (asking) {
      stale = true;
      return;
    }
    asking = true;
    do {
      stale = false;
      try {
        model.run = (await call("RunService/GetRun", { runId }, signal)).run;
      } catch (error) {
        if (error.name === "AbortError") return;
      }
      changed();
    } while (stale);
    asking = false;
  }
  const soon = () => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      if (!signal.aborted) readRun();
    }, 150);
  };

  /** Follow the log from its first entry; go on behind the last one after a cut. */
  async function follow() {
    let cursor = Math.max(0, Number(model.run?.firstAvailable ?? 1) - 1);
    for (let failures = 0; !signal.aborted; ) {
      try {
        const request = { runId, afterSequence: String(cursor), options: { encoding: "PAYLOAD_ENCODING_VALUE", includeInternal: true } };
        for await (const frame of stream("RunService/StreamEvents", request, signal)) {
          failures = 0;
          if (frame.events) {
            if (Number(frame.events.fromSequence) !== cursor + 1) model.gap += 1;
            cursor = Number(frame.events.toSequence);
            for (const entry of frame.events.entries ?? []) {
              model.entries.push(entry);
              if (entry.kind !== "ENTRY_KIND_TERMINAL") model.counts.set(entry.type, (model.counts.get(entry.type) ?? 0) + 1);
            }
            if (model.entries.length > KEPT) model.entries.splice(0, model.entries.length - KEPT);
            changed();
            soon();
          } else if (frame.finished) {
            await readRun();
            return;
          }
        }
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        if (error.code === "out_of_range") cursor = Math.max(0, Number(model.run?.firstAvailable ?? 1) - 1);
        else if (["not_found", "permission_denied", "unauthenticated"].includes(error.code)) {
          toast(error.message, "error");
          return;
        }
      }
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 250 * 2 ** failures)));
      if (!signal.aborted) await readRun();
    }
  }

  const panels = { overview, events: eventsPanel, state: statePanel, travel: travelPanel, timeline: timelinePanel };
  let painting = false;
  model.listeners.add(() => {
    if (painting) return;
    painting = true;
    requestAnimationFrame(() => {
      painting = false;
      if (!signal.aborted) paintHeader();
    });
  });
  (panels[tab] ?? overview)(body, model, signal);
  paintHeader();
  const clockwork = setInterval(paintHeader, 5000);
  signal.addEventListener("abort", () => clearInterval(clockwork));
  follow();
}

function overview(body, model, signal) {
  const picture = h("section", null);
  const questions = h("section", null);
  const outcome = h("section", null);
  show(body, questions, picture, outcome);
  const asked = questionsPanel(questions, model);
  let drawn = null;
  let shownOutcome = null;
  let planned = false;

  function paint() {
    planned = false;
    if (signal.aborted) return;
    const { run, workflow } = model;
    if (workflow && !drawn) {
      drawn = graph(workflow);
      show(picture, h("h2", null, "Graph"), drawn.element);
    }
    drawn?.mark(marksOf(model), model.counts);
    asked();
    if (run?.outcome && run.outcome !== shownOutcome) {
      shownOutcome = run.outcome;
      show(outcome, h("h2", null, "Outcome"), outcomeOf(run.outcome));
    }
  }
  model.listeners.add(() => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(paint);
  });
  paint();
}

/** What each step does now, from what the contract tells of the run. */
function marksOf({ run, entries }) {
  const marks = new Map();
  if (!run) return marks;
  for (const entry of entries.slice(-2000)) if (entry.step) marks.set(entry.step, ["done", "has run"]);
  for (const each of run.activeDeliveries ?? []) {
    const kind = (each.status ?? "").replace("DELIVERY_STATUS_", "").toLowerCase();
    const tone = { running: "active", queued: "neutral", parked: "waiting", backing_off: "bad" }[kind] ?? "neutral";
    marks.set(each.step, [tone, kind === "backing_off" ? `tries again (${each.attempt})` : kind.replace("_", " ")]);
  }
  for (const waiter of run.pendingWaiters ?? []) if (waiter.step) marks.set(waiter.step, ["waiting", `◔ waits for ${waiter.eventType}`]);
  const failed = run.outcome?.failure?.step;
  if (failed) marks.set(failed, ["bad", `✕ ${run.outcome.failure.errorType}`]);
  return marks;
}

function outcomeOf(outcome) {
  const failure = outcome.failure;
  return h(
    "div",
    { class: "card" },
    h("p", null, badge(outcome.status), " ", outcome.reason ?? ""),
    failure
      ? h("dl", { class: "facts" }, [["Step", failure.step], ["Error", failure.errorType], ["Message", failure.message], ["Attempts", failure.attempts], ["Reference in the server's log", failure.referenceId]].filter(([, value]) => value).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, String(value)))))
      : null,
    failure?.traceback ? h("pre", null, failure.traceback) : null,
    outcome.result && "value" in outcome.result ? [h("h3", null, "Result"), tree(outcome.result.value)] : null,
  );
}

