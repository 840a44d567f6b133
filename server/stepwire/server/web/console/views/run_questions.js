// The questions that a run waits to have answered, each as a form made from the event's JSON Schema.

import { call, requestId } from "../api.js";
import { h, show, toast } from "../dom.js";
import { moment } from "../format.js";
import { schemaForm } from "../parts/form.js";
import { tree } from "../parts/json.js";

/** Show the open questions in a place; call what is returned when the run has changed. Forms in use stay. */
export function questionsPanel(place, model) {
  const cards = new Map();
  return () => {
    const waiters = model.run?.pendingWaiters ?? [];
    if (!model.workflow) return;
    const open = new Set(waiters.map((each) => each.waiterId));
    for (const [id, card] of cards) {
      if (!open.has(id)) {
        card.remove();
        cards.delete(id);
      }
    }
    if (waiters.length && !place.firstChild) show(place, h("h2", null, "Open questions"));
    for (const waiter of waiters) {
      if (!cards.has(waiter.waiterId)) {
        const card = question(waiter, model);
        cards.set(waiter.waiterId, card);
        place.append(card);
      }
    }
    if (!waiters.length) show(place);
  };
}

function question(waiter, model) {
  const prompt = waiter.prompt?.payload?.value ?? {};
  const { text, ...rest } = prompt;
  const type = model.workflow.types?.find((each) => each.name === waiter.eventType);
  const schema = type?.jsonSchema ? JSON.parse(type.jsonSchema) : { properties: {} };
  const required = waiter.requirements?.value ?? {};
  return h(
    "article",
    { class: "card question" },
    h("h3", null, text ?? prompt.prefix ?? waiter.prompt?.type ?? `The step ${waiter.step} waits for ${waiter.eventType}`),
    Object.entries(rest).map(([name, value]) => tree(value, { open: 1, name })),
    h("p", { class: "quiet" }, `${waiter.step ? `Step ${waiter.step} ` : "It "}waits for ${waiter.eventType}`, waiter.deadline ? ` until ${moment(waiter.deadline)}` : "", "."),
    schemaForm(schema, {
      verb: "Answer",
      start: required,
      extra: schema.additionalProperties !== false,
      async submit(value) {
        const answer = await call("RunService/SendEvent", { runId: model.runId, event: { type: waiter.eventType, payload: { value: { ...required, ...value } } }, requestId: requestId() });
        toast(answer.delivered ? "The run took the answer" : "Nothing took the answer: it does not meet what the step asked for", answer.delivered ? "info" : "error");
      },
    }),
  );
}
