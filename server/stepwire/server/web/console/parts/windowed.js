// A list that draws only the rows in view: 100,000 rows cost what 60 do.

import { h, update } from "../dom.js";

const BEYOND = 10; // rows drawn above and below the view

/**
 * Make a windowed list of rows of one height.
 * `height` is that of a row in pixels, or returns it: it may change with the width of the window. `draw(item, index)`
 * makes a row's element, `nearEnd()` is called when the last rows come into view. Call `set(items)` when they change, and
 * `refresh()` when only what their rows say does: the row of an item that was there stays, so that it keeps the focus; it is
 * drawn again, or their element's `refresh()` is called if it has one. `set(items, gone)` says how many items went at the
 * front: the view stays on the same rows. With `follow`, a view at the end stays at the end. With `hold`, a view that is not
 * at the begin stays on the same rows whatever comes before them.
 */
export function windowed({ height, draw, nearEnd, label, follow = false, hold = false }) {
  const measure = typeof height === "function" ? height : () => height;
  const space = h("div", { class: "space" });
  const box = h("div", { class: "windowed", tabindex: "0", role: "list", "aria-label": label }, space);
  let items = [];
  let from = -1;
  let to = -1;
  let planned = false;
  let drawn = new Map();

  function paint(force) {
    const height = measure();
    const first = Math.max(0, Math.floor(box.scrollTop / height) - BEYOND);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + BEYOND);
    if (!force && first === from && last === to) return;
    from = first;
    to = last;
    const rows = [];
    const next = new Map();
    for (let index = first; index < last; index++) {
      let slot = drawn.get(items[index]);
      if (!slot) slot = h("div", { class: "slot", role: "listitem" }, draw(items[index], index));
      else if (slot.firstChild.refresh) slot.firstChild.refresh();
      else if (force) update(slot, draw(items[index], index));
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
  const sized = new ResizeObserver(() => {
    space.style.height = `${items.length * measure()}px`;
    plan(true);
  });
  sized.observe(box);
  return {
    element: box,
    set(next, gone = 0) {
      const atEnd = follow && box.scrollTop + box.clientHeight >= space.offsetHeight - measure() * 2;
      const top = Math.floor(box.scrollTop / measure());
      const held = hold && box.scrollTop > 0 ? next.indexOf(items[top]) : -1;
      items = next;
      space.style.height = `${items.length * measure()}px`;
      if (atEnd) box.scrollTop = space.offsetHeight;
      else if (held >= 0 && held !== top) box.scrollTop += (held - top) * measure();
      else if (gone) box.scrollTop = Math.max(0, box.scrollTop - gone * measure());
      plan(true);
    },
    refresh: () => plan(true),
    close: () => sized.disconnect(),
  };
}
