// The list of runs: live, filtered by the address bar, windowed, with actions on many.

import { call } from "../api.js";
import { confirm, h, show, toast } from "../dom.js";
import { ago, ended, moment, shortId, span, status, STATUS_NAMES } from "../format.js";
import { badge, labelTags } from "../parts/badge.js";
import { poll } from "../parts/poll.js";
import { windowed } from "../parts/windowed.js";

const PAGE = 200;
const ROW = 48;
const REFRESH = 2500;

function filters() {
  const query = new URLSearchParams(location.search);
  return { workflow: query.get("workflow") ?? "", statuses: query.getAll("status"), labels: query.getAll("label"), id: query.get("id") ?? "" };
}

function navigate(changed) {
  const next = { ...filters(), ...changed };
  const query = new URLSearchParams();
  if (next.workflow) query.set("workflow", next.workflow);
  next.statuses.forEach((each) => query.append("status", each));
  next.labels.forEach((each) => query.append("label", each));
  if (next.id) query.set("id", next.id);
  const text = query.toString();
  dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs${text ? `?${text}` : ""}`, replace: true } }));
}

function waitsFor(run) {
  const [first, ...more] = run.pendingWaiters ?? [];
  if (run.blockedReason) return run.blockedReason;
  if (!first) return run.outcome?.failure ? [run.outcome.failure.errorType, run.outcome.failure.step].filter(Boolean).join(" in ") : "";
  const prompt = first.prompt?.payload?.value;
  return `${prompt?.text ?? first.eventType}${more.length ? ` and ${more.length} more` : ""}`;
}

export function runsPage(place, _, signal) {
  const wanted = filters();
  const request = {
    pageSize: PAGE,
    workflow: wanted.workflow,
    statuses: wanted.statuses.map((name) => `RUN_STATUS_${name}`),
    labels: Object.fromEntries(wanted.labels.filter((each) => each.includes("=")).map((each) => [each.slice(0, each.indexOf("=")), each.slice(each.indexOf("=") + 1)])),
  };
  const runs = new Map();
  const chosen = new Set();
  let token = "";
  let loaded = false;
  let paging = false;

  const count = h("span", { class: "quiet" });
  const actions = h("div", { class: "actions", hidden: true });
  const list = windowed({ height: ROW, draw, nearEnd: more, label: "Runs" });
  const holder = h("div", { class: "grow" });
  signal.addEventListener("abort", list.close);

  function draw(run) {
    const tick = h("input", { type: "checkbox", checked: chosen.has(run.runId), "aria-label": `Select run ${run.runId}`, onchange: (event) => { if (event.target.checked) chosen.add(run.runId); else chosen.delete(run.runId); choose(); } });
    const age = h("span", { class: "c-age quiet", title: moment(run.createdAt) });
    const took = run.endedAt ? span(Date.parse(run.endedAt) - Date.parse(run.createdAt)) : "";
    const row = h(
      "div",
      { class: "row run" },
      h("span", { class: "tick" }, tick),
      h("span", { class: "c-status" }, badge(run.status)),
      h("a", { class: "c-id mono", href: `/runs/${encodeURIComponent(run.runId)}`, title: run.runId }, shortId(run.runId)),
      h("a", { class: "c-workflow", href: `/runs?workflow=${encodeURIComponent(run.workflow)}` }, run.workflow),
      h("span", { class: "c-wait", title: waitsFor(run) }, waitsFor(run)),
      h("span", { class: "c-labels" }, labelTags(run.labels)),
      age,
    );
    row.refresh = () => {
      tick.checked = chosen.has(run.runId);
      show(age, ago(run.createdAt), took ? h("small", null, ` took ${took}`) : null);
    };
    row.refresh();
    return row;
  }

  /** Keep a run; the same object when nothing of it has changed. */
  function keep(run) {
    const before = runs.get(run.runId);
    if (!before || JSON.stringify(before) !== JSON.stringify(run)) runs.set(run.runId, run);
  }

  function choose() {
    const picked = [...chosen].map((id) => runs.get(id)).filter(Boolean);
    const alive = picked.filter((run) => !ended(run.status));
    const over = picked.filter((run) => ended(run.status));
    actions.hidden = !picked.length;
    show(
      actions,
      h("strong", null, `${picked.length} selected`),
      h("button", { type: "button", disabled: !alive.length, onclick: () => many("Cancel", alive, (run) => call("RunService/CancelRun", { runId: run.runId, reason: "cancelled in the console" })) }, `Cancel ${alive.length}`),
      h("button", { type: "button", disabled: !over.length, class: "danger", onclick: () => many("Delete", over, (run) => call("RunService/DeleteRun", { runId: run.runId })) }, `Delete ${over.length}`),
      h("button", { type: "button", class: "plain", onclick: () => { chosen.clear(); choose(); list.set(items()); } }, "Clear"),
    );
  }

  async function many(verb, picked, work) {
    if (!(await confirm(`${verb} ${picked.length} run${picked.length === 1 ? "" : "s"}?`, verb === "Delete" ? "Their logs and snapshots are removed." : "Their steps are stopped; what they did stays.", verb))) return;
    let failed = 0;
    for (let begin = 0; begin < picked.length; begin += 8) {
      const done = await Promise.allSettled(picked.slice(begin, begin + 8).map(work));
      for (const [index, each] of done.entries()) {
        if (each.status === "rejected") {
          failed += 1;
          if (failed === 1) toast(each.reason.message, "error");
        } else {
          chosen.delete(picked[begin + index].runId);
          if (verb === "Delete") runs.delete(picked[begin + index].runId);
        }
      }
    }
    toast(`${verb}: ${picked.length - failed} done${failed ? `, ${failed} failed` : ""}`, failed ? "error" : "info");
    choose();
    refresh();
  }

  const items = () => {
    const all = [...runs.values()].filter((run) => run.runId.startsWith(wanted.id));
    all.sort((first, second) => (first.createdAt < second.createdAt ? 1 : first.createdAt > second.createdAt ? -1 : first.runId < second.runId ? 1 : -1));
    return all;
  };

  function present() {
    const all = items();
    list.set(all);
    count.textContent = `${all.length}${token ? "+" : ""} run${all.length === 1 ? "" : "s"}`;
    if (all.length) {
      if (list.element.parentNode !== holder) show(holder, head, list.element);
    } else if (loaded) {
      const filtered = wanted.workflow || wanted.statuses.length || wanted.labels.length || wanted.id;
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
    for (const run of runs.values()) if (!present_.has(run.runId) && run.createdAt > oldest) runs.delete(run.runId);
    found.forEach(keep);
    present();
  }

  async function more() {
    if (!token || paging) return;
    paging = true;
    try {
      const page = await call("RunService/ListRuns", { ...request, pageToken: token }, signal);
      (page.runs ?? []).forEach(keep);
      token = page.nextPageToken ?? "";
      present();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, "error");
    } finally {
      paging = false;
    }
  }

  const head = h("div", { class: "row head", "aria-hidden": "true" }, h("span", { class: "tick" }), h("span", { class: "c-status" }, "Status"), h("span", { class: "c-id" }, "Run"), h("span", { class: "c-workflow" }, "Workflow"), h("span", { class: "c-wait" }, "Waits for, or failed with"), h("span", { class: "c-labels" }, "Labels"), h("span", { class: "c-age" }, "Created"));
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
      h("div", { class: "title" }, h("h1", null, "Runs"), count, h("a", { class: "button primary", href: "/workflows" }, "Start a run")),
      h("form", { class: "filters", role: "search", onsubmit: find }, search, pick,
        h("div", { class: "chips", role: "group", "aria-label": "Status" }, STATUS_NAMES.map((name) => {
          const [shape, text] = status(name);
          const on = wanted.statuses.includes(name);
          return h("button", { type: "button", class: "chip", "aria-pressed": String(on), onclick: () => navigate({ statuses: on ? wanted.statuses.filter((each) => each !== name) : [...wanted.statuses, name] }) }, `${shape} ${text}`);
        }))),
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
