// A list that draws only the rows in view: 100,000 rows cost what 60 do.

import { h } from "../dom.js";

const BEYOND = 10; // rows drawn above and below the view

/**
 * Make a windowed list of rows of one height.
 * `height` is that of a row in pixels, `draw(item, index)` makes a row's element, `nearEnd()` is called when the last
 * rows come into view. Call `set(items)` when they change: a row is drawn again when its item is another object, else its
 * element's `refresh()` is called. With `follow`, a view at the end stays at the end.
 */
export function windowed({ height, draw, nearEnd, label, follow = false }) {
  const space = h("div", { class: "space" });
  const box = h("div", { class: "windowed", tabindex: "0", role: "list", "aria-label": label }, space);
  let items = [];
  let from = -1;
  let to = -1;
  let planned = false;
  let drawn = new Map();

  function paint(force) {
    const first = Math.max(0, Math.floor(box.scrollTop / height) - BEYOND);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + BEYOND);
    if (!force && first === from && last === to) return;
    from = first;
    to = last;
    const rows = [];
    const next = new Map();
    for (let index = first; index < last; index++) {
      // A row that is drawn already stays the same element, so that it keeps the focus.
      let slot = drawn.get(items[index]);
      if (slot) slot.firstChild.refresh?.();
      else slot = h("div", { class: "slot", role: "listitem" }, draw(items[index], index));
      slot.style.top = `${index * height}px`;
      slot.style.height = `${height}px`;
      next.set(items[index], slot);
      rows.push(slot);
    }
    for (const [item, slot] of drawn) if (!next.has(item)) slot.remove();
    drawn = next;
    rows.forEach((slot, index) => {
      if (space.children[index] !== slot) space.insertBefore(slot, space.children[index] ?? null);
    });
    if (nearEnd && last >= items.length - BEYOND) nearEnd();
  }

  function plan(force) {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      paint(force);
    });
  }

  box.addEventListener("scroll", () => plan(false), { passive: true });
  const sized = new ResizeObserver(() => plan(true));
  sized.observe(box);
  return {
    element: box,
    set(next) {
      const atEnd = follow && box.scrollTop + box.clientHeight >= space.offsetHeight - height * 2;
      items = next;
      space.style.height = `${items.length * height}px`;
      if (atEnd) box.scrollTop = space.offsetHeight;
      plan(true);
    },
    close: () => sized.disconnect(),
  };
}
