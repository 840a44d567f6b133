// The filters of the list of runs: in the address bar, as a request, and as a form.

import { h } from "../dom.js";

// The name in the address, the field of the request, what people read.
const TEXTS = [
  ["error", "errorType", "Error type"],
  ["step", "step", "Step"],
  ["waiting", "waitingFor", "Waiting for event"],
  ["parent", "parentRunId", "Parent run"],
  ["schedule", "scheduleId", "Schedule"],
  ["by", "startedBy", "Caller"],
];
const TIMES = [
  ["ended-after", "endedAfter", "Ended after"],
  ["ended-before", "endedBefore", "Ended before"],
  ["created-after", "createdAfter", "Created after"],
  ["created-before", "createdBefore", "Created before"],
];
const MORE = [...TEXTS, ...TIMES];

/** Return the filters of the address bar. */
export function filtersOf(search) {
  const query = new URLSearchParams(search);
  const found = { workflow: query.get("workflow") ?? "", statuses: query.getAll("status"), labels: query.getAll("label"), id: query.get("id") ?? "" };
  for (const [name] of MORE) found[name] = query.get(name) ?? "";
  return found;
}

/** Return the address of the list with these filters. */
export function addressOf(wanted) {
  const query = new URLSearchParams();
  if (wanted.workflow) query.set("workflow", wanted.workflow);
  wanted.statuses.forEach((each) => query.append("status", each));
  wanted.labels.forEach((each) => query.append("label", each));
  if (wanted.id) query.set("id", wanted.id);
  for (const [name] of MORE) if (wanted[name]) query.set(name, wanted[name]);
  const text = query.toString();
  return `/runs${text ? `?${text}` : ""}`;
}

/** Say whether there is any filter. */
export function isFiltered(wanted) {
  return Boolean(wanted.workflow || wanted.statuses.length || wanted.labels.length || wanted.id || hasMore(wanted));
}

function hasMore(wanted) {
  return MORE.some(([name]) => wanted[name]);
}

/** Return the filters as the contract has them: fields of ListRuns, and of a RunFilter. */
export function requestOf(wanted) {
  const pairs = wanted.labels.filter((each) => each.includes("=")).map((each) => [each.slice(0, each.indexOf("=")), each.slice(each.indexOf("=") + 1)]);
  const request = { workflow: wanted.workflow, statuses: wanted.statuses.map((name) => `RUN_STATUS_${name}`), labels: Object.fromEntries(pairs), runIdPrefix: wanted.id };
  for (const [name, field] of TEXTS) if (wanted[name]) request[field] = wanted[name];
  for (const [name, field] of TIMES) {
    const time = Date.parse(wanted[name]);
    if (Number.isFinite(time)) request[field] = new Date(time).toISOString();
  }
  return request;
}

/** Return an instant of the address as a field for a time takes it: by the reader's clock. */
function clockTime(text) {
  const time = Date.parse(text);
  return Number.isFinite(time) ? new Date(time - new Date(time).getTimezoneOffset() * 60000).toISOString().slice(0, 16) : "";
}

/** Return what was typed; a time as an instant, which means the same to readers elsewhere. */
function typed(input) {
  const text = input.value.trim();
  return text && input.type === "datetime-local" ? new Date(text).toISOString() : text;
}

/** Return the form of the filters that have no place of their own; `navigate` gets those that changed. */
export function moreFilters(wanted, navigate) {
  const inputs = MORE.map(([name, , text]) => {
    const isTime = TIMES.some(([each]) => each === name);
    return [name, text, h("input", { id: `filter-${name}`, type: isTime ? "datetime-local" : "text", value: isTime ? clockTime(wanted[name]) : wanted[name] })];
  });
  const apply = (event) => {
    event.preventDefault();
    navigate(Object.fromEntries(inputs.map(([name, , input]) => [name, typed(input)])));
  };
  return h("details", { class: "more-filters", open: hasMore(wanted) }, h("summary", null, "More filters"),
    h("form", { class: "fields", onsubmit: apply },
      inputs.map(([name, text, input]) => h("div", { class: "field" }, h("label", { for: `filter-${name}` }, text), input)),
      h("footer", null, h("button", { class: "primary" }, "Apply"), h("button", { type: "button", onclick: () => navigate(Object.fromEntries(MORE.map(([name]) => [name, ""]))) }, "Clear"))));
}
