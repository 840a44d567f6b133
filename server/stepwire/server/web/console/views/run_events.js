// The log of a run: live, windowed, filtered, each entry with its payload as a tree.

import { jsonText, plain } from "../api.js";
import { h, show } from "../dom.js";
import { clock } from "../format.js";
import { attemptText, childText, kindClass } from "../parts/attempts.js";
import { tree } from "../parts/json.js";
import { windowed } from "../parts/windowed.js";

const KINDS = { STREAM: "stream", RECEIVED: "received", SENT: "sent", TERMINAL: "end", EXECUTION: "step", CHILD: "child" };

export function eventsPanel(body, model, signal) {
  let paused = false;
  let chosen = null;
  let type = "";
  const kinds = new Set();
  const detail = h("aside", { class: "detail", "aria-label": "Entry" }, h("p", { class: "quiet" }, "Choose an entry to see its payload."));
  const count = h("span", { class: "quiet" });
  const list = windowed({ height: 32, draw, label: "Entries of the log", follow: true });
  signal.addEventListener("abort", list.close);
  const types = h("select", { "aria-label": "Event type", onchange: (event) => { type = event.target.value; filter(); } }, h("option", { value: "" }, "All types"));
  const known = new Set();

  const kindOf = (entry) => (entry.kind ?? "").replace("ENTRY_KIND_", "");

  const nameOf = (entry) => (entry.child ? childText(entry) : entry.execution ? attemptText(entry) : entry.type);

  function draw(entry) {
    const kind = kindOf(entry);
    const row = h(
      "button",
      { type: "button", class: "row entry", "aria-pressed": String(entry.sequence === chosen), onclick: () => choose(entry) },
      h("span", { class: "e-seq mono" }, entry.sequence),
      h("span", { class: "e-time mono quiet" }, clock(entry.time)),
      h("span", { class: `e-kind ${kindClass(entry)}` }, KINDS[kind] ?? kind.toLowerCase()),
      entry.execution
        ? h("span", { class: entry.execution.error ? "e-type whole failed" : "e-type whole" }, nameOf(entry))
        : [
          h("span", { class: "e-type" }, nameOf(entry)),
          h("span", { class: "e-step quiet" }, entry.step ? `by ${entry.step}` : ""),
          h("span", { class: "e-data mono quiet" }, entry.child ? entry.child.runId : jsonText(entry.payload).slice(0, 160)),
        ],
    );
    row.refresh = () => row.setAttribute("aria-pressed", String(entry.sequence === chosen));
    return row;
  }

  function choose(entry) {
    chosen = entry.sequence;
    if (entry.child) {
      const { runId } = entry.child;
      const told = [["Sequence", entry.sequence], ["Time", clock(entry.time)], ["By step", entry.step], ["Run", h("a", { class: "mono", href: `/runs/${encodeURIComponent(runId)}` }, runId)]];
      show(detail, h("h3", null, `child ${childText(entry)}`), h("dl", { class: "facts" }, told.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))));
      list.refresh();
      return;
    }
    if (entry.execution) {
      const { error, attempt, causedBy, deliveryId } = entry.execution;
      const told = [["Sequence", entry.sequence], ["Time", clock(entry.time)], ["Step", entry.step], ["Attempt", attempt], ["Delivery", deliveryId], ["Caused by", causedBy], error?.referenceId ? ["Reference in the server's log", error.referenceId] : null].filter(Boolean);
      show(detail, h("h3", null, attemptText(entry)), h("dl", { class: "facts" }, told.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, String(value))))), error?.traceback ? h("pre", null, error.traceback) : null);
      list.refresh();
      return;
    }
    const facts = [["Sequence", entry.sequence], ["Time", clock(entry.time)], ["Kind", KINDS[kindOf(entry)] ?? kindOf(entry)], entry.step ? ["By step", entry.step] : null, ["Delivered", ["RECEIVED", "SENT"].includes(kindOf(entry)) ? `${entry.delivered ?? 0}${entry.delivered ? "" : " (nothing took it)"}` : "—"]].filter(Boolean);
    show(detail, h("h3", null, entry.type), h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, String(value))))), tree(plain(entry.payload) ?? {}, { open: 3 }));
    list.refresh();
  }

  const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    button.textContent = paused ? "▶ Go on" : "‖ Pause";
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) paint();
  } }, "‖ Pause");

  let seen = 0; // entries that were looked at, counted from the first one that the page ever had
  let shown = []; // those that the filter lets through
  const matches = (entry) => (!type || entry.type === type) && (!kinds.size || kinds.has(kindOf(entry)));

  /** Take in what is new, and leave out what the page no longer keeps; returns how many rows went at the front. */
  function take() {
    for (let index = Math.max(0, seen - model.dropped); index < model.entries.length; index++) {
      const entry = model.entries[index];
      if (entry.type && !known.has(entry.type)) {
        known.add(entry.type);
        types.append(h("option", { value: entry.type }, entry.type));
      }
      if (matches(entry)) shown.push(entry);
    }
    seen = model.dropped + model.entries.length;
    const first = Number(model.entries[0]?.sequence ?? 0);
    let gone = 0;
    while (gone < shown.length && Number(shown[gone].sequence) < first) gone += 1;
    if (gone) shown.splice(0, gone);
    return gone;
  }

  /** Choose anew from all entries, after the filter changed. */
  function filter() {
    seen = 0;
    shown = [];
    paint();
  }

  let planned = false;
  function paint() {
    planned = false;
    if (signal.aborted) return;
    list.set(shown, take());
    const gap = model.gap ? `, ${model.gap} trimmed before they were read` : "";
    const dropped = model.dropped ? `, the newest of ${model.dropped + model.entries.length}` : "";
    count.textContent = `${shown.length} of ${model.entries.length} entries${dropped}${gap}`;
  }
  model.listeners.add(() => {
    if (paused || planned) return;
    planned = true;
    requestAnimationFrame(paint);
  });
  show(
    body,
    h("div", { class: "filters" }, types, h("div", { class: "chips", role: "group", "aria-label": "Kind" }, Object.entries(KINDS).map(([name, text]) => {
      const chip = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => {
        if (kinds.has(name)) kinds.delete(name);
        else kinds.add(name);
        chip.setAttribute("aria-pressed", String(kinds.has(name)));
        filter();
      } }, text);
      return chip;
    })), button, count),
    h("div", { class: "split" }, list.element, detail),
  );
  paint();
}
