// The served workflows, and one of them: its graph, its steps, its events, and a form that starts a run.

import { call, requestId } from "../api.js";
import { h, show } from "../dom.js";
import { duration, span } from "../format.js";
import { badge } from "../parts/badge.js";
import { schemaForm } from "../parts/form.js";
import { graph } from "../parts/graph.js";
import { tree } from "../parts/json.js";

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
        ? h("ul", { class: "cards" }, found.map((each) => h("li", { class: "card" }, h("h2", null, h("a", { href: `/workflows/${encodeURIComponent(each.name)}` }, each.name)), h("p", null, each.description || h("span", { class: "quiet" }, "No description.")), h("p", { class: "quiet mono" }, `version ${(each.version ?? "").slice(0, 12)}`), h("p", null, h("a", { href: `/runs?workflow=${encodeURIComponent(each.name)}` }, "Its runs")))))
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
  const counts = h("p", { class: "quiet" });
  const timeout = duration(workflow.timeout);
  show(
    place,
    h("div", { class: "page" },
      h("div", { class: "title" }, h("h1", null, name), h("a", { class: "button", href: `/runs?workflow=${encodeURIComponent(name)}` }, "Its runs")),
      workflow.description ? h("p", null, workflow.description) : null,
      h("p", { class: "quiet" }, `Version ${(workflow.version ?? "").slice(0, 12)} · runs time out after ${timeout === null ? "no time" : span(timeout)} · state ${workflow.stateType || "of any keys"}`),
      counts,
      h("h2", null, "Graph"), graph(workflow).element,
      h("div", { class: "columns" },
        h("section", { class: "card" }, h("h2", null, "Start a run"), form),
        h("section", { class: "card" }, h("h2", null, "Steps"), h("ul", { class: "steps" }, (workflow.steps ?? []).map((step) => h("li", null, h("strong", null, step.name), ` ${(step.accepts ?? []).join(" | ")} → ${(step.returns ?? []).join(" | ") || "nothing"}`, h("span", { class: "quiet" }, ` · ${step.numWorkers} worker${step.numWorkers === 1 ? "" : "s"}`), step.description ? h("p", { class: "quiet" }, step.description) : null))))),
      h("h2", null, "Events and types"),
      h("div", { class: "types" }, [...types.values()].map((type) => h("details", { class: "card" }, h("summary", null, h("strong", null, type.name), type.sendable ? h("span", { class: "tag" }, "clients may send it") : null, h("span", { class: "quiet" }, ` ${(type.role ?? "").replace("EVENT_ROLE_", "").toLowerCase().replaceAll("_", " ")}`)), type.jsonSchema ? tree(JSON.parse(type.jsonSchema), { open: 2 }) : null))),
    ),
  );
  for (const kind of ["RUNNING", "WAITING", "QUEUED", "BLOCKED"]) {
    call("RunService/ListRuns", { workflow: name, statuses: [`RUN_STATUS_${kind}`], pageSize: 1000 }, signal)
      .then((page) => {
        const many = (page.runs ?? []).length;
        if (many) counts.append(badge(kind), ` ${many}${page.nextPageToken ? "+" : ""}  `, kind === "BLOCKED" ? page.runs[0].blockedReason : "");
      })
      .catch(() => {});
  }
}
