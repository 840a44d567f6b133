// The state of a run as a tree. A change carries the etag of what was shown: a conflict is told, not overwritten.

import { may } from "../access.js";
import { call, plain, requestId } from "../api.js";
import { arrange, dialog, h, show, toast } from "../dom.js";
import { ended } from "../format.js";
import { tree } from "../parts/json.js";
import { poll } from "../parts/poll.js";

const SHOWN = 200; // keys that are shown at once
const REFRESH = 2500;

export function statePanel(body, model, signal) {
  const holder = h("div", { class: "card" });
  const note = h("span", { class: "quiet", role: "status" });
  let etag = "";
  let state = null;
  let limit = SHOWN;
  let took = 0;
  const rows = new Map(); // key → its text and element: a key that has not changed is not drawn again
  const folds = new Map();

  async function read() {
    const began = performance.now();
    try {
      const answer = await call("StateService/GetState", { runId: model.runId, encoding: "PAYLOAD_ENCODING_JSON" }, signal);
      etag = answer.etag ?? "";
      state = plain(answer.value) ?? {};
      paint();
      note.textContent = "";
    } catch (error) {
      if (error.name !== "AbortError") note.textContent = error.message;
    }
    took = performance.now() - began;
  }

  function paint() {
    const editable = model.run && !ended(model.run.status) && may("write", model.run.workflow);
    const keys = Object.keys(state ?? {});
    const elements = keys.slice(0, limit).map((key) => {
      const text = `${editable ? "" : "read only "}${JSON.stringify(state[key])}`;
      const row = rows.get(key);
      if (row?.text === text) return row.element;
      const element = h("div", { "data-key": key }, tree(state[key], { open: 2, edit: editable ? change : null, path: [key], name: key, folds }));
      rows.set(key, { text, element });
      return element;
    });
    for (const key of rows.keys()) if (!(key in state)) rows.delete(key);
    const more = keys.length > limit ? h("button", { type: "button", onclick: () => { limit += SHOWN; paint(); } }, `${keys.length - limit} more`) : null;
    arrange(holder, keys.length ? [...elements, more].filter(Boolean) : [h("p", { class: "quiet" }, "The state is empty.")]);
    add.disabled = !editable;
    add.title = editable ? "" : ended(model.run?.status) ? "The run has ended: its state does not change any more" : "You may not change this state";
  }

  function change(path, value, isNew = false) {
    const name = h("input", { id: "path", value: path.join("."), required: true, readonly: isNew ? null : true });
    const text = h("textarea", { id: "json", rows: 8, class: "code", spellcheck: "false", value: JSON.stringify(value, null, 2) });
    const problem = h("p", { class: "problem", role: "alert" });
    const conflict = h("div", null);
    let using = etag;
    const submit = async (event) => {
      event.preventDefault();
      show(problem);
      show(conflict);
      let wanted;
      try {
        wanted = JSON.parse(text.value);
      } catch {
        show(problem, "This is not JSON.");
        return;
      }
      try {
        await call("StateService/SetState", { runId: model.runId, values: [{ path: name.value, value: { value: wanted } }], etag: using, requestId: requestId() });
        box.close();
        toast(`Changed ${name.value}`);
        await read();
      } catch (error) {
        if (error.code !== "aborted") {
          show(problem, error.message, (error.untold?.() ?? []).map((each) => ` ${each.field}: ${each.description}.`));
          return;
        }
        await read();
        using = etag;
        const now = name.value.split(".").reduce((at, key) => at?.[key], state);
        show(conflict, h("div", { class: "notice bad", role: "alert" }, h("p", null, "The state has changed since you opened this. The value is now:"), tree(now ?? null, { open: 2 }), h("p", null, "Save again to replace it, or close to keep it.")));
      }
    };
    const box = dialog(isNew ? "Set a value" : `Change ${path.join(".")}`, h("form", { onsubmit: submit }, h("label", { for: "path" }, "Path"), name, h("label", { for: "json" }, "Value, as JSON"), text, problem, conflict, h("footer", null, h("button", { class: "primary" }, "Save"))));
    (isNew ? name : text).focus();
  }

  const add = h("button", { type: "button", onclick: () => change([], "", true) }, "Set a value");
  show(body, h("div", { class: "filters" }, add, note), holder);
  // Clients change the state without an entry in the log.
  poll(async () => { if (state === null || !ended(model.run?.status)) await read(); }, REFRESH, signal);
  let planned = false;
  model.listeners.add(() => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      if (!signal.aborted) read();
    }, Math.max(500, 5 * took)); // a large state is read less often
  });
}
