// The patterns and variables of the table.

import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

export class Mismatch extends Error {}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function substitute(value: Json, variables: JsonObject): Json {
  if (Array.isArray(value)) return value.map((item) => substitute(item, variables));
  if (isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, substitute(item, variables)]));
  }
  if (typeof value !== "string") return value;
  const lookup = (name: string): Json => {
    const found = variables[name];
    if (found === undefined) throw new Mismatch(`there is no variable ${name}`);
    return found;
  };
  const whole = /^\$\{(\w+)\}$/.exec(value);
  if (whole) return lookup(whole[1]!);
  return value.replace(/\$\{(\w+)\}/g, (_, name: string) => String(lookup(name)));
}

/** Return what is at a dotted path. */
export function at(document: Json | undefined, path: string): Json {
  for (const part of path === "" ? [] : path.split(".")) {
    if (Array.isArray(document)) document = /^\d+$/.test(part) ? document[Number(part)] : undefined;
    else document = isObject(document) ? document[part] : undefined;
  }
  if (document === undefined) throw new Mismatch(`nothing is at ${path} to save`);
  return document;
}

/** Throw Mismatch, saying where and why, unless the pattern matches. */
export function check(pattern: Json, actual: Json | undefined, where: string): void {
  const there = actual ?? null;
  if (pattern === "*") {
    const empty = [null, "", "0", 0, false, [], {}].some((nothing) => isDeepStrictEqual(nothing, there));
    if (empty) throw new Mismatch(`${where} is not there, or empty`);
  } else if (Array.isArray(pattern)) {
    const list = there ?? [];
    if (!Array.isArray(list) || list.length !== pattern.length) {
      throw new Mismatch(`${where} is ${short(there)}, not a list of ${pattern.length}`);
    }
    pattern.forEach((item, index) => check(item, list[index], `${where}.${index}`));
  } else if (isObject(pattern)) {
    const inside = there ?? {};
    if (!isObject(inside)) throw new Mismatch(`${where} is ${short(there)}, not an object`);
    for (const [key, item] of Object.entries(pattern)) check(item, inside[key], `${where}.${key}`);
  } else if (!equal(pattern, there)) {
    throw new Mismatch(`${where} is ${short(there)}, not ${short(pattern)}`);
  }
}

function equal(pattern: null | boolean | number | string, actual: Json): boolean {
  if (typeof pattern === "number") {
    if (typeof actual === "string") return actual.trim() !== "" && Number(actual) === pattern;
    return (actual ?? 0) === pattern;
  }
  if (typeof pattern === "string") return (actual ?? "") === pattern;
  if (typeof pattern === "boolean") return (actual ?? false) === pattern;
  return actual === null;
}

export function short(value: Json): string {
  return JSON.stringify(value).slice(0, 200);
}
