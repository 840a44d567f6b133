// The questions that a run waits to have answered, each as a form made from the event's JSON Schema.

import { may } from "../access.js";
import { call, requestId } from "../api.js";
import { h, show, toast } from "../dom.js";
import { blocked, moment } from "../format.js";
import { schemaForm } from "../parts/form.js";
import { tree } from "../parts/json.js";

/** Show the open questions in a place; call what is returned when the run has changed. Forms in use stay. */
export function questionsPanel(place, model) {
  const cards = new Map();
  return () => {
    const waiters = model.run?.pendingWaiters ?? [];
    if (!model.workflow) return;
    const isBlocked = blocked(model.run.status); // it takes no input
    const key = (waiter) => `${isBlocked ? "blocked" : "open"} ${waiter.runId ?? ""} ${waiter.waiterId}`;
    const open = new Set(waiters.map(key));
    for (const [id, card] of cards) {
      if (!open.has(id)) {
        card.remove();
        cards.delete(id);
      }
    }
    if (waiters.length && !place.firstChild) show(place, h("h2", null, "Open questions"));
    for (const waiter of waiters) {
      if (!cards.has(key(waiter))) {
        const card = waiter.runId ? questionOfChild(waiter) : question(waiter, model, isBlocked);
        cards.set(key(waiter), card);
        place.append(card);
      }
    }
    if (!waiters.length) show(place);
  };
}

/** The question of a child: its form is that of the child's workflow, and the answer goes to the child. */
function questionOfChild(waiter) {
  const { runId } = waiter;
  const link = h("a", { class: "mono", href: `/runs/${encodeURIComponent(runId)}` }, runId);
  const card = h("article", { class: "card question" }, h("p", { class: "quiet" }, "A question of the child ", link, "."));
  const ask = async () => {
    const { run } = await call("RunService/GetRun", { runId });
    const { workflow } = await call("WorkflowService/GetWorkflow", { name: run.workflow });
    show(card, h("p", { class: "quiet" }, `The child ${run.workflow} asks: `, link), [...question(waiter, { run, workflow, runId }, blocked(run.status)).childNodes]);
  };
  ask().catch(() => {}); // the link is there
  return card;
}

function question(waiter, model, isBlocked) {
  const prompt = waiter.prompt?.payload?.value ?? {};
  const { text, ...rest } = prompt;
  const type = model.workflow.types?.find((each) => each.name === waiter.eventType);
  const schema = type?.jsonSchema ? JSON.parse(type.jsonSchema) : { properties: {} };
  const required = waiter.requirements?.value ?? {};
  return h(
    "article",
    { class: "card question" },
    h("h3", null, text ?? prompt.prefix ?? waiter.prompt?.type ?? `The step ${waiter.step} waits for ${waiter.eventType}`),
    Object.entries(rest).map(([name, value]) => tree(value, { open: 3, name })),
    h("p", { class: "quiet" }, `${waiter.step ? `Step ${waiter.step} ` : "It "}waits for ${waiter.eventType}`, waiter.deadline ? ` until ${moment(waiter.deadline)}` : "", "."),
    isBlocked ? h("p", { class: "quiet" }, "It takes an answer once the run is no longer blocked.") : !may("answer", model.run.workflow) ? h("p", { class: "quiet" }, "Your credential does not allow an answer.") : schemaForm(schema, {
      verb: "Answer",
      start: required,
      extra: schema.additionalProperties !== false,
      example: '{"response": "yes"}',
      async submit(value) {
        const answer = await call("RunService/SendEvent", { runId: model.runId, event: { type: waiter.eventType, payload: { value: { ...required, ...value } } }, requestId: requestId() });
        toast(answer.delivered ? "The run took the answer" : "Nothing took the answer: it does not meet what the step asked for", answer.delivered ? "info" : "error");
      },
    }),
  );
}
