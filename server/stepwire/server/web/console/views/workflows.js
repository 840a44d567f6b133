// The served workflows, and one of them: its graph, its steps, its events, and a form that starts a run.

import { may } from "../access.js";
import { call, requestId } from "../api.js";
import { h, show, toast } from "../dom.js";
import { ago, duration, span, STATUS_NAMES } from "../format.js";
import { badge } from "../parts/badge.js";
import { schemaForm } from "../parts/form.js";
import { graph } from "../parts/graph.js";
import { tree } from "../parts/json.js";

// Types of the library that any workflow has; all others are the author's.
const LIBRARY = new Set(["Event", "StartEvent", "StopEvent", "InputRequiredEvent", "HumanResponseEvent", "StepFailedEvent", "WorkflowCancelledEvent", "WorkflowFailedEvent", "WorkflowTimedOutEvent", "DictState"]);

const COUNTED = 200; // runs of a status that are counted

export async function workflowsPage(place, _, signal) {
  let found;
  try {
    found = (await call("WorkflowService/ListWorkflows", { pageSize: 1000 }, signal)).workflows ?? [];
  } catch (error) {
    if (error.name !== "AbortError") show(place, h("p", { class: "problem pad" }, error.message));
    return;
  }
  show(
    place,
    h("div", { class: "page" }, h("div", { class: "title" }, h("h1", null, "Workflows"), h("span", { class: "quiet" }, `${found.length} served`)),
      found.length
        ? h("ul", { class: "cards" }, found.map((each) => h("li", { class: "card" }, h("h2", null, h("a", { href: `/workflows/${encodeURIComponent(each.name)}` }, each.name)), each.pause ? h("p", { class: "notice" }, `paused: ${each.pause.reason || each.pause.by}`) : null, h("p", null, each.description || h("span", { class: "quiet" }, "No description.")), h("p", { class: "quiet mono" }, `version ${(each.version ?? "").slice(0, 12)}`), h("p", null, h("a", { href: `/runs?workflow=${encodeURIComponent(each.name)}` }, "Its runs")))))
        : h("div", { class: "empty" }, h("h2", null, "No workflow is served"), h("pre", null, "stepwire serve my_module.py:MyWorkflow=name"))),
  );
}

export async function workflowPage(place, [name], signal) {
  let workflow;
  try {
    workflow = (await call("WorkflowService/GetWorkflow", { name }, signal)).workflow;
  } catch (error) {
    if (error.name !== "AbortError") show(place, h("div", { class: "empty" }, h("h1", null, error.message), h("a", { href: "/workflows" }, "All workflows")));
    return;
  }
  const types = new Map((workflow.types ?? []).map((each) => [each.name, each]));
  const start = types.get(workflow.startEvent);
  const schema = start?.jsonSchema ? JSON.parse(start.jsonSchema) : { properties: {} };
  const runId = h("input", { id: "run-id", pattern: "[A-Za-z0-9._:\\-]{1,128}", placeholder: "chosen by the server" });
  const labels = h("input", { id: "labels", placeholder: "customer=42 region=eu" });
  const form = schemaForm(schema, {
    verb: "Start the run",
    extra: schema.additionalProperties !== false,
    before: h("details", null, h("summary", null, "Run id and labels"), h("div", { class: "fields" }, h("div", { class: "field" }, h("label", { for: "run-id" }, "Run id"), runId), h("div", { class: "field" }, h("label", { for: "labels" }, "Labels"), labels))),
    async submit(value) {
      const pairs = labels.value.trim().split(/\s+/).filter(Boolean).map((each) => each.split("=", 2));
      const started = await call("RunService/StartRun", { workflow: name, input: { value }, runId: runId.value.trim(), labels: Object.fromEntries(pairs.filter((pair) => pair.length === 2)), requestId: requestId() });
      dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs/${encodeURIComponent(started.run.runId)}` } }));
    },
  });
  const counts = h("p", { class: "quiet counts" }, "Counting its runs…");
  const pause = h("div");
  const steering = h("span", { class: "actions" });
  async function steer(method, fields) {
    try {
      workflow.pause = (await call(`WorkflowService/${method}`, { name, ...fields })).pause;
      showPause();
    } catch (error) {
      toast(error.message, "error");
    }
  }
  function showPause() {
    const now = workflow.pause;
    show(pause, now ? h("p", { class: "notice" }, `Paused ${ago(now.time)} by ${now.by}${now.reason ? `: ${now.reason}` : ""}. Nothing new starts in its runs; starts and input are kept.`) : null);
    show(
      steering,
      may("admin", name) ? h("button", { type: "button", onclick: () => (now ? steer("ResumeWorkflow", {}) : steer("PauseWorkflow", { reason: "paused in the console" })) }, now ? "Resume the workflow" : "Pause the workflow") : null,
      h("a", { class: "button", href: `/schedules?workflow=${encodeURIComponent(name)}` }, "Its schedules"),
      h("a", { class: "button", href: `/runs?workflow=${encodeURIComponent(name)}` }, "Its runs"),
    );
  }
  showPause();
  const own = [...types.values()].filter((type) => !LIBRARY.has(type.name));
  const library = [...types.values()].filter((type) => LIBRARY.has(type.name));
  const timeout = duration(workflow.timeout);
  show(
    place,
    h("div", { class: "page" },
      h("div", { class: "title" }, h("h1", null, name), steering),
      workflow.description ? h("p", null, workflow.description) : null,
      h("p", { class: "quiet" }, `Version ${(workflow.version ?? "").slice(0, 12)} · ${timeout === null ? "runs have no timeout" : `runs time out after ${span(timeout)}`} · state ${workflow.stateType || "of any keys"}`),
      counts,
      pause,
      h("h2", null, "Graph"), graph(workflow).element,
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", null, "Start a run"), may("write", name) ? form : h("p", { class: "quiet" }, "Your credential does not allow to start runs of this workflow.")),
        h("section", { class: "card" }, h("h2", null, "Steps"), h("ul", { class: "steps" }, (workflow.steps ?? []).map((step) => h("li", null, h("strong", null, step.name), ` ${(step.accepts ?? []).join(" | ")} → ${(step.returns ?? []).join(" | ") || "nothing"}`, h("span", { class: "quiet" }, ` · ${step.numWorkers} worker${step.numWorkers === 1 ? "" : "s"}`), step.description ? h("p", { class: "quiet" }, step.description) : null))))),
      h("h2", null, "Events and types"),
      own.length ? h("div", { class: "types" }, own.map(typeCard)) : h("p", { class: "quiet" }, "It has no types of its own."),
      library.length ? h("details", { class: "library" }, h("summary", null, `Types of the library: ${library.length}`), h("div", { class: "types" }, library.map(typeCard))) : null,
    ),
  );
  const counted = await Promise.all(STATUS_NAMES.map((kind) => count(name, kind, signal)));
  show(counts, counted.some(Boolean) ? counted : "No runs yet.");
}

/** Count the runs of a workflow that have a status, and say why one is blocked; null when there are none. */
async function count(workflow, kind, signal) {
  try {
    const { runs = [], nextPageToken } = await call("RunService/ListRuns", { workflow, statuses: [`RUN_STATUS_${kind}`], pageSize: COUNTED }, signal);
    if (!runs.length) return null;
    const address = `/runs?workflow=${encodeURIComponent(workflow)}&status=${kind}`;
    return h("span", null, h("a", { class: "plainlink", href: address }, badge(kind)), ` ${runs.length}${nextPageToken ? "+" : ""} `, kind === "BLOCKED" ? runs[0].blockedReason : null);
  } catch {
    return null;
  }
}

/** An event or another type, with its schema folded. */
function typeCard(type) {
  const role = (type.role ?? "").replace("EVENT_ROLE_", "").toLowerCase().replaceAll("_", " ");
  return h("details", { class: "card" },
    h("summary", null, h("strong", null, type.name), type.sendable ? h("span", { class: "tag" }, "clients may send it") : type.internal ? h("span", { class: "tag" }, "internal: only steps send it") : null, h("span", { class: "quiet" }, role === "unspecified" ? "" : ` ${role}`)),
    type.jsonSchema ? tree(JSON.parse(type.jsonSchema), { open: 2 }) : null);
}
