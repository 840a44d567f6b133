// The log of a run: live, windowed, filtered, each entry with its payload as a tree.

import { h, show } from "../dom.js";
import { clock } from "../format.js";
import { tree } from "../parts/json.js";
import { windowed } from "../parts/windowed.js";

const KINDS = { STREAM: "stream", RECEIVED: "received", SENT: "sent", TERMINAL: "end", EXECUTION: "step" };

export function eventsPanel(body, model, signal) {
  let paused = false;
  let chosen = null;
  let type = "";
  const kinds = new Set();
  const detail = h("aside", { class: "detail", "aria-label": "Entry" }, h("p", { class: "quiet" }, "Choose an entry to see its payload."));
  const count = h("span", { class: "quiet" });
  const list = windowed({ height: 32, draw, label: "Entries of the log", follow: true });
  signal.addEventListener("abort", list.close);
  const types = h("select", { "aria-label": "Event type", onchange: (event) => { type = event.target.value; paint(); } }, h("option", { value: "" }, "All types"));
  const known = new Set();

  const kindOf = (entry) => (entry.kind ?? "").replace("ENTRY_KIND_", "");

  function draw(entry) {
    const kind = kindOf(entry);
    const row = h(
      "button",
      { type: "button", class: "row entry", "aria-pressed": String(entry.sequence === chosen), onclick: () => choose(entry) },
      h("span", { class: "e-seq mono" }, entry.sequence),
      h("span", { class: "e-time mono quiet" }, clock(entry.time)),
      h("span", { class: `e-kind kind-${kind.toLowerCase()}` }, KINDS[kind] ?? kind.toLowerCase()),
      h("span", { class: "e-type" }, entry.type),
      h("span", { class: "e-step quiet" }, entry.step ? `by ${entry.step}` : ""),
      h("span", { class: "e-data mono quiet" }, JSON.stringify(entry.payload?.value ?? {}).slice(0, 160)),
    );
    row.refresh = () => row.setAttribute("aria-pressed", String(entry.sequence === chosen));
    return row;
  }

  function choose(entry) {
    chosen = entry.sequence;
    const facts = [["Sequence", entry.sequence], ["Time", clock(entry.time)], ["Kind", KINDS[kindOf(entry)] ?? kindOf(entry)], entry.step ? ["By step", entry.step] : null, ["Delivered", ["RECEIVED", "SENT"].includes(kindOf(entry)) ? `${entry.delivered ?? 0}${entry.delivered ? "" : " (nothing took it)"}` : "—"]].filter(Boolean);
    show(detail, h("h3", null, entry.type), h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, String(value))))), tree(entry.payload?.value ?? {}, { open: 3 }));
    paint();
  }

  const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    button.textContent = paused ? "▶ Go on" : "‖ Pause";
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) paint();
  } }, "‖ Pause");

  let planned = false;
  function paint() {
    planned = false;
    if (signal.aborted) return;
    for (const entry of model.entries) {
      if (!known.has(entry.type)) {
        known.add(entry.type);
        types.append(h("option", { value: entry.type }, entry.type));
      }
    }
    const items = type || kinds.size ? model.entries.filter((entry) => (!type || entry.type === type) && (!kinds.size || kinds.has(kindOf(entry)))) : model.entries;
    list.set(items);
    count.textContent = `${items.length} of ${model.entries.length} entries${model.gap ? `, ${model.gap} trimmed before they were read` : ""}`;
  }
  model.listeners.add(() => {
    if (paused || planned) return;
    planned = true;
    requestAnimationFrame(paint);
  });
  show(
    body,
    h("div", { class: "filters" }, types, h("div", { class: "chips", role: "group", "aria-label": "Kind" }, Object.entries(KINDS).filter(([name]) => name !== "EXECUTION").map(([name, text]) => {
      const chip = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => {
        if (kinds.has(name)) kinds.delete(name);
        else kinds.add(name);
        chip.setAttribute("aria-pressed", String(kinds.has(name)));
        paint();
      } }, text);
      return chip;
    })), button, count),
    h("div", { class: "split" }, list.element, detail),
  );
  paint();
}
