// Make elements. Text is always set as text: nothing that a run or a person wrote is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make an HTML element. Attributes that begin with "on" are event listeners; null and false are left out. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Make an SVG element. */
export function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Replace what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Say something in a corner for some seconds. `kind` is "info" or "error". */
export function toast(text, kind = "info") {
  const box = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), kind === "error" ? 10000 : 4000);
}

/** Open a modal dialog and return it; it removes itself when it is closed. */
export function dialog(title, ...content) {
  const id = `d${Math.random().toString(36).slice(2)}`;
  const box = h(
    "dialog",
    { "aria-labelledby": id, onclose: () => box.remove() },
    h("header", null, h("h2", { id }, title), h("button", { class: "plain", type: "button", "aria-label": "Close", onclick: () => box.close() }, "✕")),
    content,
  );
  document.body.append(box);
  box.showModal();
  return box;
}

/** Ask before something that cannot be undone. Resolves to whether the answer was yes. */
export function confirm(title, text, verb) {
  return new Promise((resolve) => {
    const box = dialog(
      title,
      h("p", null, text),
      h(
        "footer",
        null,
        h("button", { type: "button", onclick: () => box.close() }, "Keep"),
        h("button", { type: "button", class: "danger", onclick: () => { resolve(true); box.close(); } }, verb),
      ),
    );
    box.addEventListener("close", () => resolve(false));
  });
}
