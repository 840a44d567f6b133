// The state of a run as a tree. A change carries the etag of what was shown: a conflict is told, not overwritten.

import { call, requestId } from "../api.js";
import { dialog, h, show, toast } from "../dom.js";
import { ended } from "../format.js";
import { tree } from "../parts/json.js";

export function statePanel(body, model, signal) {
  const holder = h("div", { class: "card" });
  const note = h("span", { class: "quiet", role: "status" });
  let etag = "";
  let state = null;
  let last = "";

  async function read() {
    try {
      const answer = await call("StateService/GetState", { runId: model.runId, encoding: "PAYLOAD_ENCODING_VALUE" }, signal);
      etag = answer.etag ?? "";
      state = answer.value?.value ?? {};
      const text = JSON.stringify(state);
      if (text !== last) {
        last = text;
        paint();
      }
      note.textContent = "";
    } catch (error) {
      if (error.name !== "AbortError") note.textContent = error.message;
    }
  }

  function paint() {
    const editable = model.run && !ended(model.run.status);
    show(holder, Object.keys(state ?? {}).length ? tree(state, { open: 3, edit: editable ? change : null }) : h("p", { class: "quiet" }, "The state is empty."));
    add.disabled = !editable;
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
          show(problem, error.message, (error.fields ?? []).map((each) => ` ${each.field}: ${each.description}.`));
          return;
        }
        await read();
        using = etag;
        const now = name.value.split(".").reduce((at, key) => at?.[key], state);
        show(conflict, h("div", { class: "notice bad", role: "alert" }, h("p", null, "The state has changed since you opened this. The value is now:"), tree(now ?? null, { open: 2 }), h("p", null, "Save again to replace it, or close to keep it.")));
      }
    };
    const box = dialog(isNew ? "Set a value" : `Change ${path.join(".")}`, h("form", { onsubmit: submit }, h("label", { for: "path" }, "Path"), name, h("label", { for: "json" }, "Value, as JSON"), text, problem, conflict, h("footer", null, h("button", { class: "primary" }, "Save"))));
    text.focus();
  }

  const add = h("button", { type: "button", onclick: () => change([], "", true) }, "Set a value");
  show(body, h("div", { class: "filters" }, add, note), holder);
  read();
  let planned = false;
  model.listeners.add(() => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      if (!signal.aborted) read();
    }, 500);
  });
}
