// Show a JSON value as a tree; open branches by clicking. With `edit`, leaves and branches can be changed.

import { h } from "../dom.js";

/** Say whether a path of the contract can lead through a key: what cannot be reached is changed with what contains it. */
const hasPath = (key) => key !== "" && !key.startsWith("_") && !key.includes(".");

const SHOWN = 200; // children of one branch that are shown at once

/**
 * Return the element of a value. `edit(path, value)` is called when a reader wants to change what is at a path. `folds` is a
 * map in which the branches that the reader has opened or closed are kept, for the next time that the value is shown.
 */
export function tree(value, { edit = null, open = 2, path = [], name = null, marks = null, folds = null } = {}) {
  const key = name === null ? null : h("span", { class: "key" }, `${name}: `);
  const mark = marks?.get(path.join("."));
  const button = edit && path.length && path.every(hasPath) ? h("button", { class: "plain edit", type: "button", "aria-label": `Change ${path.join(".")}`, onclick: () => edit(path, value) }, "✎") : null;
  if (value === null || typeof value !== "object") {
    return h("div", { class: `leaf ${mark ?? ""}` }, key, h("span", { class: `value ${value === null ? "null" : typeof value}` }, JSON.stringify(value) ?? "undefined"), button);
  }
  const list = Array.isArray(value);
  const entries = Object.entries(value);
  if (!entries.length) return h("div", { class: `leaf ${mark ?? ""}` }, key, list ? "[ ]" : "{ }", button);
  const body = h("div", { class: "children" });
  const draw = (begin) => {
    for (const [child, item] of entries.slice(begin, begin + SHOWN)) {
      body.append(tree(item, { edit, open: open - 1, path: [...path, child], name: child, marks, folds }));
    }
    if (entries.length > begin + SHOWN) {
      const more = h("button", { type: "button", onclick: () => { more.remove(); draw(begin + SHOWN); } }, `${entries.length - begin - SHOWN} more`);
      body.append(more);
    }
  };
  const about = h("span", { class: "quiet" }, list ? `[${entries.length}]` : `{${entries.length}}`);
  const place = path.join("\n");
  const opened = folds?.get(place) ?? open > 0;
  const details = h("details", { open: opened, class: mark }, h("summary", null, key, about), body);
  if (opened) draw(0);
  details.addEventListener("toggle", () => {
    if (details.open && !body.firstChild) draw(0);
    folds?.set(place, details.open);
  });
  return button ? h("div", { class: "branch" }, details, button) : details;
}

/** Return the differences of two JSON values as [path, before, after] lines; undefined where there is nothing. */
export function differences(before, after, path = []) {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const deep = (value) => value !== null && typeof value === "object";
  if (!deep(before) || !deep(after) || Array.isArray(before) !== Array.isArray(after)) return [[path.join("."), before, after]];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => differences(before[key], after[key], [...path, key]));
}

/** Turn a snapshot's tagged JSON into plain JSON for reading: what a tag wraps, without the tag. */
export function untagged(value) {
  if (Array.isArray(value)) return value.map(untagged);
  if (value === null || typeof value !== "object") return value;
  const [tag, ...others] = Object.keys(value);
  if (!others.length && tag?.startsWith("$")) {
    const inner = value[tag];
    if (tag === "$model" && Array.isArray(inner)) return untagged(inner[1]);
    if (tag === "$dict" && Array.isArray(inner)) return Object.fromEntries(inner.map(([key, item]) => [String(untagged(key)), untagged(item)]));
    return untagged(inner);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, untagged(item)]));
}
