// Time travel: the state and the work at each kept snapshot, the difference between two, and a fork from one.

import { may } from "../access.js";
import { call, decode64, requestId } from "../api.js";
import { dialog, h, show, toast } from "../dom.js";
import { bytes, ended, moment } from "../format.js";
import { schemaForm } from "../parts/form.js";
import { differences, tree, untagged } from "../parts/json.js";

export async function travelPanel(body, model, signal) {
  const snapshots = [];
  const slider = h("input", { type: "range", min: 0, value: 0, "aria-label": "Snapshot", oninput: () => choose(Number(slider.value)) });
  const label = h("span", { class: "mono" });
  const compare = h("select", { "aria-label": "Compare with", onchange: () => paint() });
  const left = h("section", { class: "card" });
  const right = h("section", { class: "card" });
  const fork = h("button", { type: "button", class: "primary", onclick: branch }, "Fork from here");
  const cache = new Map();
  let at = -1;
  let asked = 0;
  show(body, h("p", { class: "quiet pad" }, "Loading…"));

  async function list() {
    let pageToken = "";
    do {
      const page = await call("SnapshotService/ListSnapshots", { runId: model.runId, pageSize: 1000, pageToken }, signal);
      snapshots.push(...(page.snapshots ?? []));
      pageToken = page.nextPageToken ?? "";
    } while (pageToken);
    snapshots.sort((first, second) => Number(first.sequence ?? 0) - Number(second.sequence ?? 0));
  }

  async function load(index) {
    const sequence = snapshots[index].sequence ?? "0";
    if (!cache.has(sequence)) {
      const found = await call("SnapshotService/GetSnapshot", { runId: model.runId, sequence }, signal);
      const snapshot = found.snapshot;
      const state = Object.fromEntries(Object.entries(snapshot.stateJson ?? {}).map(([key, value]) => [key, untagged(JSON.parse(new TextDecoder().decode(decode64(value))))]));
      if (cache.size > 50) cache.delete(cache.keys().next().value);
      cache.set(sequence, { snapshot, state });
    }
    return cache.get(sequence);
  }

  async function choose(index) {
    at = index;
    await paint();
  }

  async function paint() {
    const mine = ++asked;
    const info = snapshots[at];
    label.textContent = `sequence ${info.sequence ?? 0} · ${moment(info.createdAt)} · ${bytes(info.sizeBytes ?? 0)}`;
    try {
      const { snapshot, state } = await load(at);
      const other = compare.value === "" ? null : await load(Number(compare.value));
      if (mine !== asked || signal.aborted) return;
      const changes = other ? differences(other.state, state) : [];
      const marks = new Map(changes.map(([path]) => [path, "changed"]));
      show(left, h("h3", null, "State"), Object.keys(state).length ? tree(state, { open: 3, marks }) : h("p", { class: "quiet" }, "The state is empty."),
        other ? [h("h3", null, `${changes.length} difference${changes.length === 1 ? "" : "s"}`), h("ul", { class: "changes" }, changes.slice(0, 200).map(([path, before, after]) => h("li", null, h("code", null, path || "everything"), h("span", { class: "before" }, before === undefined ? "absent" : JSON.stringify(before)), " → ", h("span", { class: "after" }, after === undefined ? "absent" : JSON.stringify(after)))))] : null);
      if (at === snapshots.length - 1 && !ended(model.run.status)) left.append(h("p", { class: "quiet" }, "As it was committed. What clients have set since is in the tab State, and in the next snapshot."));
      const work = [...(snapshot.inProgress ?? []).map((each) => [each, "in progress"]), ...(snapshot.queued ?? []).map((each) => [each, "queued"])];
      show(right, h("h3", null, "Work at that moment"), work.length ? h("table", null, h("thead", null, h("tr", null, ["Step", "Event", "Status", "Attempt"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", null, work.map(([each, kind]) => h("tr", null, h("td", null, each.step), h("td", null, each.eventType), h("td", null, kind), h("td", null, each.attempt ?? 0))))) : h("p", { class: "quiet" }, "Nothing was queued or in progress."),
        h("p", { class: "quiet" }, `${(snapshot.waiters ?? []).length} open question${(snapshot.waiters ?? []).length === 1 ? "" : "s"}, ${(snapshot.buffers ?? []).length} buffer${(snapshot.buffers ?? []).length === 1 ? "" : "s"} of collected events.`));
    } catch (error) {
      if (error.name !== "AbortError") show(left, h("p", { class: "problem" }, error.message));
    }
  }

  async function start(sequence, input) {
    const started = await call("RunService/StartRun", { workflow: model.run.workflow, from: { runId: model.runId, sequence }, ...input, requestId: requestId() });
    toast(`Forked as ${started.run.runId}`);
    dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs/${encodeURIComponent(started.run.runId)}` } }));
  }

  async function branch() {
    const sequence = snapshots[at].sequence ?? "0";
    fork.disabled = true;
    try {
      const { snapshot } = await load(at);
      if (ended(snapshot.status)) askForInput(sequence);
      else await start(sequence, {});
    } catch (error) {
      toast(error.message, "error");
    } finally {
      fork.disabled = false;
    }
  }

  /** A run that had ended starts anew with the state that it had. */
  function askForInput(sequence) {
    const type = model.workflow?.types?.find((each) => each.name === model.workflow.startEvent);
    const schema = type?.jsonSchema ? JSON.parse(type.jsonSchema) : { properties: {} };
    const form = schemaForm(schema, { verb: "Start the fork", extra: schema.additionalProperties !== false, async submit(value) {
      await start(sequence, { input: { value } });
      box.close();
    } });
    const box = dialog("Fork from the end", h("p", null, "The run had ended here. Its fork starts anew, with the state that is kept, and takes an input."), form);
  }

  try {
    await list();
  } catch (error) {
    if (error.name !== "AbortError") show(body, h("p", { class: "problem pad" }, error.message));
    return;
  }
  if (!snapshots.length) {
    show(body, h("div", { class: "empty" }, h("h2", null, "No snapshots are kept"), h("p", null, "Each commit of a living run keeps one; of an ended run the last stays.")));
    return;
  }
  slider.max = snapshots.length - 1;
  slider.value = snapshots.length - 1;
  compare.append(h("option", { value: "" }, "no comparison"), ...snapshots.map((each, index) => h("option", { value: index }, `compare with ${each.sequence ?? 0}`)));
  show(body, h("div", { class: "travel" }, slider, h("div", { class: "filters" }, label, compare, may("write", model.run.workflow) && fork)), h("div", { class: "columns" }, left, right));
  choose(snapshots.length - 1);
}
