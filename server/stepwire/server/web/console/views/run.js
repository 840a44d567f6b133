// One run: what it is, what it does, what it asks; its log, its state, its past.

import { may } from "../access.js";
import { call, requestId, stream } from "../api.js";
import { confirm, h, show, toast, update } from "../dom.js";
import { ago, blocked, ended, endedBadly, moment, paused, span } from "../format.js";
import { hasFailed } from "../parts/attempts.js";
import { badge, labelTags } from "../parts/badge.js";
import { graph } from "../parts/graph.js";
import { tree } from "../parts/json.js";
import { activeMarks, activityPanel } from "./run_activity.js";
import { childrenPanel, childrenText } from "./run_children.js";
import { eventsPanel } from "./run_events.js";
import { questionsPanel } from "./run_questions.js";
import { statePanel } from "./run_state.js";
import { timelinePanel } from "./run_timeline.js";
import { travelPanel } from "./run_travel.js";

const TABS = [["overview", "Overview"], ["timeline", "Timeline"], ["events", "Events"], ["children", "Children"], ["state", "State"], ["travel", "Time travel"]];
const WIDE = new Set(["Forked from", "Parent", "Children", "Schedule", "Retries", "Labels"]); // facts that have two places
const KEPT = 120_000; // entries of the log that are kept in the page; the oldest go first

export async function runPage(place, [runId], signal) {
  const model = { runId, run: null, workflow: null, entries: [], dropped: 0, counts: new Map(), latest: new Map(), listeners: new Set(), gap: 0 };
  const changed = () => model.listeners.forEach((each) => each());
  const header = h("div", { class: "run-head" });
  const body = h("div", { class: "panel" });
  let tab = new URLSearchParams(location.search).get("tab") ?? "overview";
  const tabs = h("div", { class: "tabs", role: "tablist" }, TABS.map(([name, text]) => h("a", { role: "tab", "data-tab": name, href: `/runs/${encodeURIComponent(runId)}${name === "overview" ? "" : `?tab=${name}`}` }, text)));
  show(place, h("div", { class: "page" }, header, tabs, body));

  try {
    model.run = (await call("RunService/GetRun", { runId }, signal)).run;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.code !== "unavailable") {
      show(place, h("div", { class: "empty" }, h("h1", null, error.reason === "RUN_NOT_FOUND" ? "There is no such run" : "The run cannot be shown"), h("p", null, error.reason === "RUN_NOT_FOUND" ? ["The server has no run ", h("span", { class: "mono" }, runId), ". Perhaps it was never there, or it was deleted: by a caller, or because it was too old to be kept."] : error.message), h("a", { href: "/runs" }, "All runs")));
      return;
    }
    show(header, h("p", { class: "quiet" }, "Waiting for the server…"));
  }
  call("WorkflowService/GetWorkflow", { name: model.run?.workflow ?? "" }, signal).then((found) => { model.workflow = found.workflow; changed(); }, () => {});

  function paintHeader() {
    const run = model.run;
    if (!run) return;
    const over = ended(run.status);
    tabs.querySelector("[data-tab=children]").hidden = !run.children && tab !== "children";
    const facts = [
      ["Workflow", h("a", { href: `/workflows/${encodeURIComponent(run.workflow)}` }, run.workflow)],
      ["Created", h("time", { datetime: run.createdAt, title: moment(run.createdAt) }, ago(run.createdAt))],
      over ? ["Took", span(Date.parse(run.endedAt) - Date.parse(run.createdAt))] : ["Last change", ago(run.updatedAt)],
      run.timeoutAt && !over ? ["Times out", `in ${span(Date.parse(run.timeoutAt) - Date.now())}`] : null,
      ["Log", `${run.lastSequence ?? 0} ${run.lastSequence === "1" ? "entry" : "entries"}`],
      run.forkedFrom ? ["Forked from", h("a", { class: "mono", href: `/runs/${encodeURIComponent(run.forkedFrom.runId)}` }, `${run.forkedFrom.runId} at ${run.forkedFrom.sequence ?? 0}`)] : null,
      run.parent ? ["Parent", [h("a", { class: "mono", href: `/runs/${encodeURIComponent(run.parent.runId)}` }, run.parent.runId), h("span", { class: "quiet" }, ` by ${run.parent.step}${run.parent.abandoned ? ", goes on without it" : ""}`)]] : null,
      run.children ? ["Children", h("a", { href: `/runs/${encodeURIComponent(runId)}?tab=children` }, childrenText(run.children))] : null,
      run.schedule ? ["Schedule", [h("a", { href: `/schedules/${encodeURIComponent(run.schedule.scheduleId)}` }, run.schedule.scheduleId), h("span", { class: "quiet" }, ` ${run.schedule.manual ? "asked for" : "due"} ${moment(run.schedule.dueTime)}`)]] : null,
      run.startedBy && run.startedBy !== "anonymous" ? ["Started by", h("a", { href: `/runs?by=${encodeURIComponent(run.startedBy)}` }, run.startedBy)] : null,
      run.retriedFrom ? ["Retries", h("a", { class: "mono", href: `/runs/${encodeURIComponent(run.retriedFrom.runId)}` }, `${run.retriedFrom.runId} at ${run.retriedFrom.sequence ?? 0}`)] : null,
      Object.keys(run.labels ?? {}).length ? ["Labels", labelTags(run.labels)] : null,
    ].filter(Boolean);
    update(
      header,
      h("div", { class: "title" }, h("h1", { class: "mono" }, runId), badge(run.status),
        h("span", { class: "actions" },
          over
            ? [
              endedBadly(run.status) && may("write", run.workflow) && h("button", run.retriedAs?.length ? { type: "button", title: "Opens the run that retries this one", onclick: retry } : { type: "button", class: "primary", onclick: retry }, "Retry"),
              may("admin", run.workflow) && h("button", { type: "button", class: "danger", onclick: remove }, "Delete"),
            ]
            : may("write", run.workflow) && [
              blocked(run.status) ? null : paused(run) ? h("button", { type: "button", onclick: () => steer("ResumeRun", {}) }, "Resume") : h("button", { type: "button", onclick: () => steer("PauseRun", { reason: "paused in the console" }) }, "Pause"),
              h("button", { type: "button", onclick: cancel }, "Cancel run"),
            ])),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", { class: WIDE.has(name) ? "wide" : null }, h("dt", null, name), h("dd", null, value)))),
      run.pause ? h("p", { class: "notice" }, run.pause.workflow ? "Its workflow is paused" : "Paused", ` for ${span(Date.now() - Date.parse(run.pause.time))} by ${run.pause.by}`, run.pause.reason ? `: ${run.pause.reason}` : "", ". Nothing new starts; input is kept.") : null,
      run.retriedAs?.length ? h("p", { class: "notice" }, "Retried as ", run.retriedAs.map((each, index) => [index ? ", " : "", h("a", { class: "mono", href: `/runs/${encodeURIComponent(each)}` }, each)]), ".") : null,
      blocked(run.status) ? blockedNotice(run) : run.blockedReason ? h("p", { class: "notice bad" }, h("strong", null, "It cannot go on: "), run.blockedReason, ".") : null,
      (run.blockedChildren ?? []).map((child) => h("p", { class: "notice bad" }, h("strong", null, "A child cannot go on: "), h("a", { class: "mono", href: `/runs/${encodeURIComponent(child.runId)}` }, child.runId), ` of ${child.workflow}: ${child.reason}.`)),
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

  async function steer(method, fields) {
    try {
      model.run = (await call(`RunService/${method}`, { runId, ...fields })).run;
      changed();
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async function retry() {
    try {
      const { run } = await call("RunService/RetryRun", { runId, requestId: requestId() });
      dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs/${encodeURIComponent(run.runId)}` } }));
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
  let took = 0;
  async function readRun() {
    if (asking) {
      stale = true;
      return;
    }
    asking = true;
    const began = performance.now();
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
    took = performance.now() - began;
  }
  const soon = () => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      if (!signal.aborted) readRun();
    }, Math.max(150, 5 * took)); // a run with much to tell is asked less often
  };

  /** Follow the log from its first entry; go on behind the last one after a cut. */
  async function follow() {
    let cursor = Math.max(0, Number(model.run?.firstAvailable ?? 1) - 1);
    for (let failures = 0; !signal.aborted; ) {
      try {
        const request = { runId, afterSequence: String(cursor), options: { encoding: "PAYLOAD_ENCODING_JSON", includeInternal: may("read", model.run?.workflow) } };
        for await (const frame of stream("RunService/StreamEvents", request, signal)) {
          failures = 0;
          if (frame.events) {
            if (Number(frame.events.fromSequence) !== cursor + 1) model.gap += 1;
            cursor = Number(frame.events.toSequence);
            for (const entry of frame.events.entries ?? []) {
              model.entries.push(entry);
              if (entry.step) model.latest.set(entry.step, entry);
              if (entry.kind !== "ENTRY_KIND_TERMINAL" && entry.type) model.counts.set(entry.type, (model.counts.get(entry.type) ?? 0) + 1);
            }
            const over = model.entries.length - KEPT;
            if (over > 0) {
              model.entries.splice(0, over);
              model.dropped += over;
            }
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

  const panels = { overview, events: eventsPanel, children: childrenPanel, state: statePanel, travel: travelPanel, timeline: timelinePanel };
  let painted = null;
  function headerSoon() {
    if (painted === model.run) return; // entries change nothing of it
    painted = model.run;
    requestAnimationFrame(() => { if (!signal.aborted) paintHeader(); });
  }

  let leaving = new AbortController();
  /** Show a tab. What the page has read of the run stays. */
  function open(name) {
    leaving.abort();
    leaving = new AbortController();
    tab = name;
    for (const each of tabs.children) {
      each.setAttribute("aria-selected", String(each.dataset.tab === tab));
      // On a narrow window the tabs scroll, and the selected one is to be in sight.
      if (each.dataset.tab === tab) tabs.scrollLeft = each.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - each.offsetWidth) / 2;
    }
    model.listeners = new Set([headerSoon]);
    show(body);
    (panels[tab] ?? overview)(body, model, AbortSignal.any([signal, leaving.signal]));
  }
  tabs.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    open(link.dataset.tab);
  });
  open(tab);
  paintHeader();
  // Spans go on, and not all that changes a run is in its log: a pause, and the state.
  const clockwork = setInterval(() => {
    paintHeader();
    if (model.run && !ended(model.run.status) && !document.hidden) readRun();
  }, 5000);
  signal.addEventListener("abort", () => clearInterval(clockwork));
  follow();
}

/** Say why a run is blocked, and what to do about it. */
function blockedNotice(run) {
  const reason = (run.blockedReason || "the served code cannot go on with it").replace(/[.\s]+$/, "");
  return h("div", { class: "notice bad" },
    h("p", null, h("strong", null, "Blocked: "), `${reason}.`),
    h("p", null, "Its state is kept. Serve code that can read it: give renamed steps and events their earlier names as ", h("code", null, "aliases"), ", give new fields a default, or write a ", h("code", null, "migrate()"), ". The run goes on by itself when the server starts with that code. Or cancel it."));
}

function overview(body, model, signal) {
  const picture = h("section", null);
  const questions = h("section", null);
  const activity = h("section", null);
  const outcome = h("section", null);
  show(body, questions, picture, activity, outcome); // what comes and goes with each step is below the graph
  const asked = questionsPanel(questions, model);
  const paintActivity = activityPanel(activity, model);
  let drawn = null;
  let shownOutcome = null;
  let shownRun = null;
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
    if (run !== shownRun || !workflow) {
      shownRun = workflow && run;
      asked();
      paintActivity();
    }
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
  // The spans in the table go on while nothing happens.
  const clockwork = setInterval(() => { if (model.run?.activeDeliveries?.length) paintActivity(); }, 1000);
  signal.addEventListener("abort", () => clearInterval(clockwork));
}

/** What each step does now, from what the contract tells of the run. */
function marksOf({ run, latest }) {
  const marks = new Map();
  if (!run) return marks;
  for (const [step, entry] of latest) marks.set(step, hasFailed(entry) ? ["bad", "✕ failed"] : ["done", "has run"]);
  // Children work with steps of their own, which may have the same names.
  const active = activeMarks((run.activeDeliveries ?? []).filter((each) => !each.runId));
  for (const [step, mark] of active) marks.set(step, mark);
  for (const waiter of run.pendingWaiters ?? []) if (waiter.step && !waiter.runId && (active.get(waiter.step)?.[0] ?? "waiting") === "waiting") marks.set(waiter.step, ["waiting", `◔ waits for ${waiter.eventType}`]);
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

