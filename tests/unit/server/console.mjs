// Paint the panels of a run on a document that only keeps what is put into it, and print the texts and classes.
// Run by test_console_panels.py with the model as JSON on standard input.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

class Element {
  constructor(name) {
    Object.assign(this, { name, attributes: {}, children: [], listeners: {}, clientWidth: 900, style: {} });
  }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  append(...children) { this.children.push(...children.flatMap((each) => (each.name === "fragment" ? each.children : [each]))); }
  get childNodes() { return this.children; }
  get firstChild() { return this.children[0] ?? null; }
  get lastChild() { return this.children.at(-1) ?? null; }
  replaceChildren(...children) { this.children = children; }
  querySelector() { return new Element("found"); }
  set textContent(text) { this.children = [text]; }
  get text() { return this.children.map((each) => (each instanceof Element ? each.text : String(each))).join(" "); }
  *all() { yield this; for (const each of this.children) if (each instanceof Element) yield* each.all(); }
}
const make = (name) => new Element(name);
Object.assign(globalThis, {
  document: { createElement: make, createElementNS: (_, name) => make(name), createDocumentFragment: () => make("fragment"), createTextNode: String, getElementById: make, documentElement: make("html") },
  Node: Element,
  setInterval() {},
  requestAnimationFrame: (run) => run(),
  location: { search: "" },
  addEventListener() {},
  sessionStorage: { getItem: () => null },
});

const [folder] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${folder}/${path}`));
const given = JSON.parse(readFileSync(0, "utf8"));
const model = { ...given, listeners: new Set(), counts: new Map(), dropped: 0, gap: 0 };
const signal = { aborted: false, addEventListener() {} };

const { Attempts, attemptText } = await load("parts/attempts.js");
const { activeMarks, activityPanel } = await load("views/run_activity.js");
const { timelinePanel } = await load("views/run_timeline.js");
const activity = make("section");
activityPanel(activity, model)();
const timeline = make("div");
timelinePanel(timeline, model, signal);
const joined = new Attempts();
const bars = [...timeline.all()].filter((each) => each.attributes.class?.startsWith("attempt "));
console.log(JSON.stringify({
  attempts: [...new Set(model.entries.filter((entry) => entry.execution).flatMap((entry) => joined.take(entry)))],
  texts: model.entries.filter((entry) => entry.execution).map(attemptText),
  marks: Object.fromEntries(activeMarks(model.run.activeDeliveries)),
  activity: activity.text,
  bars: bars.map((each) => [each.attributes.class, each.text, Number(each.attributes.width)]),
  timeline: timeline.text,
  cuts: [...timeline.all()].filter((each) => each.attributes.class === "cut").map((each) => [each.text, Number(each.children[0].attributes.width)]),
}));
