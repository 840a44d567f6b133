// Draw a workflow's graph as SVG: steps in layers from left to right, events as arrows. `mark` shows what a run does.

import { h, svg } from "../dom.js";

const WIDTH = 168;
const HEIGHT = 46;
const GAP_X = 156; // room for a label of LABEL characters
const LABEL = 18;
const GAP_Y = 30;
const PAD = 16;
const LINE = 13; // from a label to the one above it
const LANE = 40; // above the steps for arrows over others, below them for arrows back
const SMALLEST = 0.8; // a picture that is too wide becomes as small as this; then it scrolls

/** Order the nodes into layers: a node stands right of all that lead to it, except over edges that close a circle. */
function layersOf(nodes, edges) {
  const next = new Map(nodes.map((node) => [node, []]));
  for (const { source, target } of edges) if (source !== target) next.get(source)?.push(target);
  const depth = new Map();
  const open = new Set();
  const order = [];
  const visit = (node) => {
    if (depth.has(node) || open.has(node)) return;
    open.add(node);
    for (const target of next.get(node) ?? []) visit(target);
    open.delete(node);
    depth.set(node, 0);
    order.unshift(node);
  };
  nodes.forEach(visit);
  const place = new Map(order.map((node, index) => [node, index]));
  for (const node of order) {
    for (const target of next.get(node)) if (place.get(target) > place.get(node)) depth.set(target, Math.max(depth.get(target), depth.get(node) + 1));
  }
  const layers = [];
  for (const node of order) (layers[depth.get(node)] ??= []).push(node);
  // Two sweeps by the mean place of the neighbours before take most crossings away.
  for (let sweep = 0; sweep < 2; sweep++) {
    for (let index = 1; index < layers.length; index++) {
      const before = layers[index - 1] ?? [];
      const mean = (node) => {
        const found = edges.filter((edge) => edge.target === node && before.includes(edge.source)).map((edge) => before.indexOf(edge.source));
        return found.length ? found.reduce((sum, each) => sum + each, 0) / found.length : Number.MAX_VALUE;
      };
      layers[index].sort((first, second) => mean(first) - mean(second));
    }
  }
  return layers.filter(Boolean);
}

/**
 * Make the picture of a workflow of the contract. Returns {element, mark(marks, counts)}: `marks` is a map from step to
 * [tone, text], `counts` one from event type to how many there were.
 */
export function graph(workflow) {
  // Steps without a name are outside: where the start event comes from and where the stop event goes.
  const edges = (workflow.edges ?? []).map((edge) => ({ source: edge.source || "▸ outside", target: edge.target || "outside ▸", type: edge.eventType }));
  const nodes = [...new Set([...edges.flatMap((edge) => [edge.source, edge.target]), ...(workflow.steps ?? []).map((step) => step.name)])];
  const steps = new Set((workflow.steps ?? []).map((step) => step.name));
  const layers = layersOf(nodes, edges);
  const tallest = Math.max(...layers.map((layer) => layer.length), 1);
  const total = { width: PAD * 2 + layers.length * WIDTH + (layers.length - 1) * GAP_X, height: PAD * 2 + tallest * HEIGHT + (tallest - 1) * GAP_Y };
  const columns = new Map(layers.flatMap((layer, column) => layer.map((node) => [node, column])));
  const lengths = edges.map((edge) => columns.get(edge.target) - columns.get(edge.source));
  // Labels stand above their arrows, those of one arrow in a stack.
  const stacked = (wanted) => Math.max(0, ...edges.filter((_, index) => wanted(lengths[index])).map((edge) => edges.filter((each) => each.source === edge.source && each.target === edge.target).length - 1)) * LINE;
  const above = lengths.some((length) => length > 1) ? LANE + stacked((length) => length > 1) : 12 + Math.max(0, stacked((length) => length === 1) - LINE);
  total.height += above + (lengths.some((length) => length <= 0) ? LANE : 0);
  const at = new Map();
  layers.forEach((layer, column) => {
    const lower = ((tallest - layer.length) * (HEIGHT + GAP_Y)) / 2;
    layer.forEach((node, row) => at.set(node, { x: PAD + column * (WIDTH + GAP_X), y: PAD + above + lower + row * (HEIGHT + GAP_Y), column }));
  });
  const boxes = new Map();
  const labels = new Map();
  const bundles = new Map();
  for (const edge of edges) {
    const key = `${edge.source}→${edge.target}`;
    if (!bundles.has(key)) bundles.set(key, { ...edge, types: [] });
    bundles.get(key).types.push(edge.type);
  }
  const lines = [...bundles.values()].map((edge) => {
    const from = at.get(edge.source);
    const to = at.get(edge.target);
    const back = to.column <= from.column;
    const start = { x: from.x + WIDTH, y: from.y + HEIGHT / 2 };
    const end = { x: to.x, y: to.y + HEIGHT / 2 };
    const over = to.column > from.column + 1; // it would run through the steps between
    const centre = (place) => place.x + WIDTH / 2;
    const low = Math.max(from.y, to.y) + HEIGHT + 22;
    const high = Math.min(from.y, to.y) - 22;
    const path = back
      ? `M${centre(from)},${from.y + HEIGHT} C${centre(from)},${low + 14} ${centre(to)},${low + 14} ${centre(to)},${to.y + HEIGHT + 4}`
      : over
        ? `M${centre(from)},${from.y} C${centre(from)},${high - 14} ${centre(to)},${high - 14} ${centre(to)},${to.y - 4}`
        : `M${start.x},${start.y} C${start.x + GAP_X / 2},${start.y} ${end.x - GAP_X / 2},${end.y} ${end.x - 4},${end.y}`;
    const middle = back || over ? { x: (centre(from) + centre(to)) / 2, y: back ? low + 8 : high - 13 } : { x: start.x + GAP_X / 2, y: (start.y + end.y) / 2 - 6 };
    const texts = edge.types.map((type, index) => {
      const count = svg("tspan", { class: "count" });
      const list = labels.get(type) ?? [];
      list.push(count);
      labels.set(type, list);
      return svg("text", { x: middle.x, y: middle.y - index * LINE, class: "edge-label" }, type.length > LABEL && !back && !over ? `${type.slice(0, LABEL - 1)}…` : type, count, svg("title", null, type));
    });
    return svg("g", { class: "edge" }, svg("path", { d: path, "marker-end": "url(#arrow)" }), texts);
  });
  const drawn = nodes.map((node) => {
    const place = at.get(node);
    const below = svg("text", { x: WIDTH / 2, y: 35, class: "state" });
    const isStep = steps.has(node);
    const box = svg(
      "g",
      { class: isStep ? "node" : "node outside", transform: `translate(${place.x},${place.y})` },
      svg("rect", { width: WIDTH, height: HEIGHT, rx: isStep ? 8 : 23 }),
      svg("text", { x: WIDTH / 2, y: 28, class: "name" }, node.length > 20 ? `${node.slice(0, 19)}…` : node),
      below,
      svg("title", null, node),
    );
    boxes.set(node, { box, below });
    return box;
  });
  const arrow = svg("defs", null, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "7", markerHeight: "7", orient: "auto-start-reverse" }, svg("path", { d: "M0,0 L8,4 L0,8 z" })));
  const picture = svg("svg", { viewBox: `0 0 ${total.width} ${total.height}`, role: "img", "aria-label": `Graph of ${workflow.name}: ${[...steps].join(", ")}` }, arrow, lines, drawn);
  picture.style.width = `max(min(100%, ${total.width}px), ${Math.round(SMALLEST * total.width)}px)`;
  return {
    element: h("div", { class: "graph", tabindex: "0", role: "region", "aria-label": "Graph" }, picture),
    mark(marks, counts = new Map()) {
      for (const [node, { box, below }] of boxes) {
        const [tone, text] = marks.get(node) ?? ["", ""];
        const kind = `node ${steps.has(node) ? "" : "outside"} ${tone}`;
        if (box.getAttribute("class") === kind && below.textContent === text) continue;
        box.setAttribute("class", kind);
        below.textContent = text;
        box.querySelector(".name").setAttribute("y", text ? 20 : 28);
      }
      for (const [type, places] of labels) {
        const text = counts.get(type) ? ` ×${counts.get(type)}` : "";
        for (const place of places) if (place.textContent !== text) place.textContent = text;
      }
    },
  };
}
