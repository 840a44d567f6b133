// A form from a JSON Schema. What the form cannot show is edited as JSON.

import { h, show } from "../dom.js";

let made = 0;

function resolve(schema, root) {
  let found = schema ?? {};
  for (let hops = 0; found.$ref && hops < 20; hops++) {
    const { $ref, ...rest } = found;
    found = { ...$ref.split("/").slice(1).reduce((place, name) => place?.[name], root), ...rest };
  }
  if (found.allOf?.length === 1) return resolve({ ...found.allOf[0], ...found, allOf: undefined }, root);
  const choices = found.anyOf ?? found.oneOf;
  if (choices) {
    const real = choices.filter((choice) => choice.type !== "null");
    if (real.length === 1) return { ...resolve(real[0], root), ...found, anyOf: undefined, oneOf: undefined, nullable: real.length < choices.length };
  }
  return found;
}

/**
 * One input for a schema: {element, id, get, mark}. `get` returns undefined for what is left out, and throws an Error that
 * says what is wrong with the text.
 */
function input(schema, root, start, depth, optional) {
  const id = `f${++made}`;
  if (schema.const !== undefined) {
    return { id, element: h("output", { id }, JSON.stringify(schema.const)), get: () => schema.const };
  }
  if (schema.enum) {
    // A choice that nobody made is not sent: what is required must be chosen, and what is not required may be left out.
    const none = schema.nullable ? h("option", { value: "" }, "—") : start === undefined ? h("option", { value: "" }, "choose…") : null;
    const select = h("select", { id }, none, schema.enum.map((value, index) => h("option", { value: index, selected: value === start }, String(value))));
    return { id, element: select, get: () => (select.value !== "" ? schema.enum[Number(select.value)] : schema.nullable ? null : undefined) };
  }
  if (schema.type === "boolean") {
    const yes = h("input", { type: "radio", name: id, id, checked: start === true });
    const no = h("input", { type: "radio", name: id, id: `${id}n`, checked: start === false });
    const element = h("span", { class: "choice", role: "radiogroup" }, yes, h("label", { for: id }, "yes"), no, h("label", { for: `${id}n` }, "no"));
    return { id, element, get: () => (yes.checked ? true : no.checked ? false : undefined) };
  }
  if (schema.type === "integer" || schema.type === "number") {
    const box = h("input", { id, inputmode: "decimal", value: start ?? "", min: schema.minimum, max: schema.maximum });
    return {
      id,
      element: box,
      get: () => {
        if (box.value.trim() === "") return undefined;
        const number = Number(box.value);
        if (!Number.isFinite(number) || (schema.type === "integer" && !Number.isInteger(number))) throw new Error(schema.type === "integer" ? "a whole number is expected" : "a number is expected");
        if (schema.type === "integer" && !Number.isSafeInteger(number)) throw new Error("the number is too large to be sent exactly");
        return number;
      },
    };
  }
  const choices = (schema.anyOf ?? schema.oneOf)?.map((choice) => choice.type);
  if (choices?.includes("string") && choices.every((type) => ["string", "number", "integer", "null"].includes(type))) {
    // A decimal, for example. A number that JavaScript would write in another way is sent as it was typed, as a text.
    const box = h("input", { id, value: start ?? "" });
    const exact = (typed) => String(Number(typed)) === typed && (choices.includes("number") || Number.isInteger(Number(typed)));
    return { id, element: box, get: () => (box.value === "" ? undefined : exact(box.value.trim()) ? Number(box.value) : box.value) };
  }
  if (schema.type === "string") {
    const kind = { date: "date", "date-time": "datetime-local", email: "email", uri: "url", time: "time" }[schema.format] ?? "text";
    const long = kind === "text" && (schema.maxLength ?? 0) > 200;
    const box = h(long ? "textarea" : "input", { id, type: long ? null : kind, value: start ?? "", maxlength: schema.maxLength });
    return { id, element: box, get: () => (box.value === "" ? (start === "" ? "" : undefined) : kind === "datetime-local" ? new Date(box.value).toISOString() : box.value) };
  }
  if (schema.type === "object" && schema.properties && depth < 4) {
    const inner = fields(schema, root, start ?? {}, depth + 1);
    if (!optional) return { id, element: h("fieldset", null, inner.element), get: inner.get, mark: inner.mark };
    const folded = h("details", { id, open: Boolean(start) }, h("summary", null, "with these fields"), h("fieldset", null, inner.element));
    return { id, element: folded, get: () => (folded.open ? inner.get() : undefined), mark: inner.mark };
  }
  const text = h("textarea", { id, rows: 3, class: "code", spellcheck: "false", value: start === undefined ? "" : JSON.stringify(start, null, 2), placeholder: schema.type === "array" ? "[ ]" : schema.type === "object" ? "{ }" : "JSON" });
  return {
    id,
    element: text,
    get: () => {
      if (text.value.trim() === "") return undefined;
      try {
        return JSON.parse(text.value);
      } catch {
        throw new Error("this is not JSON");
      }
    },
  };
}

/** The fields of an object schema: {element, get, mark(field violations)}. */
function fields(schema, root, start, depth) {
  const required = new Set(schema.required ?? []);
  const parts = Object.entries(schema.properties ?? {}).map(([name, raw]) => {
    const resolved = resolve(raw, root);
    const field = input(resolved, root, start[name] ?? (required.has(name) ? undefined : resolved.default ?? undefined), depth, !required.has(name));
    const problem = h("span", { class: "problem", id: `${field.id}p` });
    field.element.setAttribute("aria-describedby", problem.id);
    const about = [resolved.description, required.has(name) ? null : "optional"].filter(Boolean).join(" · ");
    const row = h("div", { class: "field" }, h("label", { for: field.id }, name, required.has(name) ? h("span", { class: "must", title: "required" }, " *") : null), field.element, about ? h("span", { class: "quiet" }, about) : null, problem);
    return { name, field, problem, row, required: required.has(name) };
  });
  const say = (part, text) => {
    part.problem.textContent = text;
    part.row.classList.toggle("wrong", Boolean(text));
  };
  return {
    element: h("div", { class: "fields" }, parts.map((part) => part.row)),
    get() {
      const value = {};
      let wrong = null;
      for (const part of parts) {
        say(part, "");
        try {
          const item = part.field.get();
          if (item !== undefined) value[part.name] = item;
          else if (part.required) throw new Error("this is required");
        } catch (error) {
          say(part, error.message);
          wrong ??= part;
        }
      }
      if (wrong) {
        wrong.field.element.focus?.();
        throw new Error(`${wrong.name}: ${wrong.problem.textContent}`);
      }
      return value;
    },
    mark(violations) {
      const rest = [];
      for (const violation of violations) {
        const path = violation.field.split(".");
        const part = parts.find((each) => path.includes(each.name));
        if (part) say(part, violation.description);
        else rest.push(violation);
      }
      return rest;
    },
  };
}

/** The place of fields that the schema does not name: folded away when there are named ones. */
function further(box, open) {
  const field = h("div", { class: "field" }, h("label", { for: box.id }, "Fields, as a JSON object"), box);
  return open ? field : h("details", null, h("summary", null, "Further fields"), field);
}

/**
 * Make a form for a JSON Schema. `submit(value)` may return a promise; a CallError with fields marks them.
 * `extra` allows further fields as a JSON object: events take fields that are not declared. `example` is one.
 */
export function schemaForm(schema, { submit, verb, start = {}, extra = false, example = '{"city": "Oslo"}', before = null }) {
  const root = schema;
  const top = resolve(schema, root);
  const part = fields(top, root, start, 0);
  const declared = Object.keys(top.properties ?? {});
  const others = extra
    ? h("textarea", { id: `f${++made}`, rows: 3, class: "code", spellcheck: "false", placeholder: example })
    : null;
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { class: "primary" }, verb);
  const form = h(
    "form",
    {
      class: "schema",
      novalidate: true,
      async onsubmit(event) {
        event.preventDefault();
        show(problem);
        let value;
        try {
          value = part.get();
          if (others?.value.trim()) {
            let more;
            try {
              more = JSON.parse(others.value);
            } catch {
              throw new Error("The further fields are not JSON");
            }
            value = { ...more, ...value };
          }
        } catch (error) {
          show(problem, error.message);
          return;
        }
        button.disabled = true;
        try {
          await submit(value);
        } catch (error) {
          const rest = part.mark(error.fields ?? []);
          show(problem, error.message, (error.untold?.(rest) ?? rest).map((each) => h("span", null, ` ${each.field}: ${each.description}.`)));
        } finally {
          button.disabled = false;
        }
      },
    },
    before,
    declared.length ? part.element : null,
    others ? further(others, declared.length === 0) : null,
    problem,
    h("footer", null, button),
  );
  return form;
}
