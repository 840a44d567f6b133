// A run's status as a badge: shape, text and colour.

import { h } from "../dom.js";
import { status } from "../format.js";

export function badge(name) {
  const [shape, text, tone] = status(name);
  return h("span", { class: `badge ${tone}` }, h("span", { "aria-hidden": "true" }, shape), ` ${text}`);
}

/** Labels as small tags that lead to the runs that have them. */
export function labelTags(labels) {
  return Object.entries(labels ?? {}).map(([key, value]) => h("a", { class: "tag", href: `/runs?label=${encodeURIComponent(`${key}=${value}`)}` }, `${key}=${value}`));
}
