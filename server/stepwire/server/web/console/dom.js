// Make elements. Text is always set as text: nothing that a run or a person wrote is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...present(children));
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

const present = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** Replace what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

const CONTROLS = new Set(["BUTTON", "INPUT", "SELECT", "TEXTAREA", "FORM", "DETAILS"]);

/**
 * Change what an element holds into this. What is equal stays the same element: it keeps the focus, and takes a click that
 * has begun. A control that stays keeps its listeners, so give the parts of a list a `data-key`: only a part with the same
 * key becomes the other. What has the same `data-same` is taken for equal: a tree may have been unfolded meanwhile.
 */
export function update(element, ...children) {
  const wanted = present(children);
  wanted.forEach((child, index) => {
    const next = child instanceof Node ? child : document.createTextNode(child);
    const now = element.childNodes[index];
    if (!now) element.append(next);
    else if (now.isEqualNode(next) || (now.dataset?.same && now.dataset.same === next.dataset?.same)) {
      if (now.type === "checkbox") now.checked = next.checked;
    } else if (now.nodeType === Node.TEXT_NODE && next.nodeType === Node.TEXT_NODE) now.data = next.data;
    else if (alike(now, next)) {
      for (const { name } of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
      for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
      update(now, [...next.childNodes]);
    } else {
      const focused = now.contains(document.activeElement) && now.matches("button, a");
      now.replaceWith(next);
      if (focused) next.focus?.({ preventScroll: true });
    }
  });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
  return element;
}

/** Have an element hold these elements in this order; those that are there already are not touched. */
export function arrange(element, wanted) {
  wanted.forEach((each, index) => { if (element.childNodes[index] !== each) element.insertBefore(each, element.childNodes[index] ?? null); });
  while (element.childNodes.length > wanted.length) element.lastChild.remove();
}

function alike(now, next) {
  if (now.nodeType !== Node.ELEMENT_NODE || now.nodeName !== next.nodeName || CONTROLS.has(now.nodeName)) return false;
  return now.dataset.key === next.dataset.key;
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
