// The list of runs: live, filtered by the address bar, windowed, with actions on many.

import { call } from "../api.js";
import { h, show, toast } from "../dom.js";
import { ago, many, moment, shortId, span, status, STATUS_NAMES } from "../format.js";
import { badge, labelTags } from "../parts/badge.js";
import { matchingActions, selectedActions } from "../parts/many.js";
import { poll } from "../parts/poll.js";
import { addressOf, filtersOf, isFiltered, moreFilters, requestOf } from "../parts/run_filter.js";
import { windowed } from "../parts/windowed.js";

const PAGE = 200;
const FURTHER = 1000; // runs of each page after the first
const ROW = 48;
const STACKED = 96; // on a narrow window, where a row has lines instead of columns
const REFRESH = 2500;

function navigate(changed) {
  const address = addressOf({ ...filtersOf(location.search), ...changed });
  dispatchEvent(new CustomEvent("stepwire-go", { detail: { address, replace: true } }));
}

function waitsFor(run) {
  const [first, ...more] = run.pendingWaiters ?? [];
  if (run.blockedReason) return run.blockedReason;
  if (run.pause) return [run.pause.workflow ? "its workflow is paused" : "paused", run.pause.reason].filter(Boolean).join(": ");
  if (!first && run.children?.unfinished && !run.endedAt) return many(run.children.unfinished, "child run");
  if (!first) return run.outcome?.failure ? [run.outcome.failure.errorType, run.outcome.failure.step].filter(Boolean).join(" in ") : "";
  const prompt = first.prompt?.payload?.value;
  return `${prompt?.text ?? first.eventType}${more.length ? ` and ${more.length} more` : ""}`;
}

export function runsPage(place, _, signal) {
  const wanted = filtersOf(location.search);
  const request = { pageSize: PAGE, ...requestOf(wanted) };
  const runs = new Map();
  const chosen = new Set();
  let token = "";
  let loaded = false;
  let paging = false;

  const narrow = matchMedia("(max-width: 760px)"); // as in style.css
  const count = h("span", { class: "quiet" });
  const actions = h("div", { class: "actions", hidden: true });
  const list = windowed({ height: () => (narrow.matches ? STACKED : ROW), draw, nearEnd: more, label: "Runs", hold: true });
  const holder = h("div", { class: "grow" });
  signal.addEventListener("abort", list.close);

  function draw(runId) {
    const run = runs.get(runId);
    const tick = h("input", { type: "checkbox", checked: chosen.has(run.runId), "aria-label": `Select run ${run.runId}`, onchange: (event) => { if (event.target.checked) chosen.add(run.runId); else chosen.delete(run.runId); choose(); } });
    const took = run.endedAt ? span(Date.parse(run.endedAt) - Date.parse(run.createdAt)) : "";
    return h(
      "div",
      { class: chosen.has(run.runId) ? "row run chosen" : "row run" },
      h("span", { class: chosen.has(run.runId) ? "tick on" : "tick" }, tick), // the class tells `update` that it has changed
      h("span", { class: "c-status" }, badge(run.status)),
      h("a", { class: "c-id mono", href: `/runs/${encodeURIComponent(run.runId)}`, title: run.runId }, shortId(run.runId)),
      h("a", { class: "c-workflow", href: `/runs?workflow=${encodeURIComponent(run.workflow)}` }, run.workflow),
      h("span", { class: "c-wait", title: waitsFor(run) }, waitsFor(run)),
      h("span", { class: "c-labels" }, labelTags(run.labels)),
      h("span", { class: "c-age quiet", title: moment(run.createdAt) }, h("span", null, ago(run.createdAt)), took ? h("small", null, `took ${took}`) : null),
    );
  }

  let sorted = null; // their ids, newest first, until one comes or goes

  function keep(run) {
    if (!runs.has(run.runId)) sorted = null;
    runs.set(run.runId, run);
  }

  function drop(run) {
    if (runs.delete(run.runId)) sorted = null;
  }

  function choose() {
    const picked = [...chosen].map((id) => runs.get(id)).filter(Boolean);
    list.set(ids());
    actions.hidden = !picked.length;
    const done = (action, run) => {
      chosen.delete(run.runId);
      if (action.name === "delete") drop(run);
    };
    show(
      actions,
      h("strong", null, `${picked.length} selected`),
      selectedActions(picked, done, () => { choose(); refresh(); }),
      h("button", { type: "button", class: "plain", onclick: () => { chosen.clear(); choose(); } }, "Clear"),
    );
  }

  /** The ids of the runs, newest first. */
  function ids() {
    const newer = (first, second) => (first.createdAt < second.createdAt ? 1 : first.createdAt > second.createdAt ? -1 : first.runId < second.runId ? 1 : -1);
    sorted ??= [...runs.values()].sort(newer).map((run) => run.runId);
    return sorted;
  }

  function present() {
    const all = ids();
    list.set(all);
    if (matching) matching.hidden = !all.length;
    count.textContent = `${all.length}${token ? "+" : ""} run${all.length === 1 ? "" : "s"}`;
    if (all.length) {
      if (list.element.parentNode !== holder) show(holder, head, list.element);
    } else if (loaded) {
      const filtered = isFiltered(wanted);
      show(holder, h("div", { class: "empty" }, h("h2", null, filtered ? "No run matches" : "No runs yet"), filtered ? h("a", { href: "/runs" }, "Show all runs") : [h("p", null, "Start one by a form, or from a shell:"), h("pre", null, "stepwire run WORKFLOW key=value"), h("a", { class: "button primary", href: "/workflows" }, "Choose a workflow")]));
    }
  }

  async function refresh() {
    const page = await call("RunService/ListRuns", request, signal);
    const found = page.runs ?? [];
    if (!loaded) token = page.nextPageToken ?? "";
    loaded = true;
    // Runs of the first page that are there no longer were deleted, or no longer match.
    const oldest = page.nextPageToken ? found.at(-1)?.createdAt : "";
    const present_ = new Set(found.map((run) => run.runId));
    for (const run of runs.values()) if (!present_.has(run.runId) && run.createdAt > oldest) drop(run);
    found.forEach(keep);
    present();
  }

  async function more() {
    if (!token || paging) return;
    paging = true;
    try {
      const page = await call("RunService/ListRuns", { ...request, pageSize: FURTHER, pageToken: token }, signal);
      (page.runs ?? []).forEach(keep);
      token = page.nextPageToken ?? "";
      present();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "error");
    } finally {
      paging = false;
    }
  }

  const matching = isFiltered(wanted) ? matchingActions(requestOf(wanted), refresh, signal) : null;
  if (matching) matching.hidden = true; // until a run matches
  const head = h("div", { class: "row head", "aria-hidden": "true" }, h("span", { class: "tick" }), h("span", { class: "c-status" }, "Status"), h("span", { class: "c-id" }, "Run"), h("span", { class: "c-workflow" }, "Workflow"), h("span", { class: "c-wait" }, "Waits for, or failed with"), h("span", { class: "c-labels" }, "Labels"), h("span", { class: "c-age" }, "Created"));
  // The heads stand above their columns also beside a scroll bar: 12 px, less two borders of the list.
  const aligned = new ResizeObserver(() => { head.style.paddingRight = `${10 + list.element.offsetWidth - list.element.clientWidth}px`; });
  aligned.observe(list.element);
  signal.addEventListener("abort", () => aligned.disconnect());
  const search = h("input", { type: "search", id: "search", value: wanted.id || wanted.labels.join(" "), placeholder: "run id, or key=value", "aria-label": "Search by run id or label" });
  const pick = h("select", { "aria-label": "Workflow", onchange: (event) => navigate({ workflow: event.target.value }) }, h("option", { value: "" }, "All workflows"), wanted.workflow ? h("option", { value: wanted.workflow, selected: true }, wanted.workflow) : null);
  const find = async (event) => {
    event.preventDefault();
    const text = search.value.trim();
    if (!text || text.includes("=")) return navigate({ id: "", labels: text.split(/\s+/).filter((each) => each.includes("=")) });
    try {
      await call("RunService/GetRun", { runId: text }, signal);
      dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs/${encodeURIComponent(text)}` } }));
    } catch {
      navigate({ id: text, labels: [] });
    }
  };
  show(
    place,
    h("div", { class: "page list" },
      h("div", { class: "title" }, h("h1", null, "Runs"), count, matching, h("a", { class: "button primary", href: "/workflows" }, "Start a run")),
      h("form", { class: "filters", role: "search", onsubmit: find }, search, pick,
        h("div", { class: "chips", role: "group", "aria-label": "Status" }, STATUS_NAMES.map((name) => {
          const [shape, text] = status(name);
          const on = wanted.statuses.includes(name);
          return h("button", { type: "button", class: "chip", "aria-pressed": String(on), onclick: () => navigate({ statuses: on ? wanted.statuses.filter((each) => each !== name) : [...wanted.statuses, name] }) }, `${shape} ${text}`);
        }))),
      moreFilters(wanted, navigate),
      actions,
      holder,
    ),
  );
  show(holder, h("p", { class: "quiet pad" }, "Loading…"));
  poll(refresh, REFRESH, signal);
  call("WorkflowService/ListWorkflows", { pageSize: 1000 }, signal)
    .then((page) => pick.append(...(page.workflows ?? []).filter((each) => each.name !== wanted.workflow).map((each) => h("option", { value: each.name }, each.name))))
    .catch(() => {});
}
