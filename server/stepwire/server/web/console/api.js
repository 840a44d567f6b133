// Call the contract by the Connect protocol with JSON. Nothing here is private to the console: see docs/web.md.

const TOKEN = "stepwire-token"; // in the tab's session storage: gone when the tab is closed
const HEADERS = { "content-type": "application/json", "connect-protocol-version": "1" };

/** What a call failed with: `code` as Connect names it, `reason` of the ErrorInfo, `fields` of a BadRequest. */
export class CallError extends Error {
  constructor(code, message, details = []) {
    super(message || code);
    this.code = code;
    this.reason = "";
    this.fields = [];
    for (const detail of details) {
      const shown = detail.debug;
      if (detail.type === "google.rpc.ErrorInfo") this.reason = shown?.reason ?? text(detail.value, 1);
      if (detail.type === "google.rpc.BadRequest") this.fields = shown?.fieldViolations ?? violations(detail.value);
    }
  }

  /** Those of some fields that the message does not tell: it names the first ones of an INVALID_REQUEST itself. */
  untold(fields = this.fields) {
    return fields.filter((each) => !this.message.includes(each.description));
  }
}

export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

export function setToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

function headers(extra) {
  const value = token();
  return { ...extra, ...(value ? { authorization: `Bearer ${value}` } : {}) };
}

/** Whether the server was reachable at the last call; listeners hear of changes. */
export const connection = Object.assign(new EventTarget(), { up: true });

function reachable(up) {
  if (connection.up !== up) {
    connection.up = up;
    connection.dispatchEvent(new Event("change"));
  }
}

async function send(method, request, kind, signal) {
  let response;
  try {
    response = await fetch(`/stepwire.v1.${method}`, { method: "POST", headers: headers(kind.headers), body: kind.body(request), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reachable(false);
    throw new CallError("unavailable", "The server does not answer");
  }
  reachable(true);
  return response;
}

async function failure(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // Something between here and the server answered.
  }
  const error = new CallError(body.code ?? `http ${response.status}`, body.message, body.details);
  if (response.status === 401) dispatchEvent(new Event("stepwire-unauthenticated"));
  return error;
}

const UNARY = { headers: HEADERS, body: (request) => JSON.stringify(request) };
const STREAM = {
  headers: { "content-type": "application/connect+json", "connect-protocol-version": "1" },
  body: (request) => envelope(new TextEncoder().encode(JSON.stringify(request))),
};

/** Make a unary call: call("RunService/GetRun", {runId}). */
export async function call(method, request, signal) {
  const response = await send(method, request, UNARY, signal);
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** Iterate the responses of a call that streams. */
export async function* stream(method, request, signal) {
  const response = await send(method, request, STREAM, signal);
  if (!response.ok) throw await failure(response);
  const reader = response.body.getReader();
  let rest = new Uint8Array(0);
  try {
    while (true) {
      let part;
      try {
        part = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        reachable(false);
        throw new CallError("unavailable", "The connection was cut");
      }
      if (part.done) throw new CallError("unavailable", "The connection was cut");
      rest = rest.length ? joined(rest, part.value) : part.value;
      let at = 0;
      while (rest.length - at >= 5) {
        const length = new DataView(rest.buffer, rest.byteOffset + at + 1, 4).getUint32(0);
        if (rest.length - at < 5 + length) break;
        const body = JSON.parse(new TextDecoder().decode(rest.subarray(at + 5, at + 5 + length)));
        const last = rest[at] & 2;
        at += 5 + length;
        if (last) {
          if (body.error) throw new CallError(body.error.code, body.error.message, body.error.details);
          return;
        }
        yield body;
      }
      rest = rest.subarray(at);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function envelope(body) {
  const all = new Uint8Array(5 + body.length);
  new DataView(all.buffer).setUint32(1, body.length);
  all.set(body, 5);
  return all;
}

function joined(first, second) {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

/** Make a request_id, so that a repeat of a request has one effect. */
export function requestId() {
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Decode base64 with or without padding, also the URL alphabet. */
export function decode64(value) {
  const binary = atob(value.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/**
 * Return the value of a payload as JSON says it, with the fields in their order. Integers that JavaScript would round become
 * texts, as in payloads that are encoded as values.
 */
export function plain(payload) {
  if (payload?.json === undefined) return payload?.value;
  const exact = (_, value, context) => (typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source) ? context.source : value);
  return JSON.parse(jsonText(payload) || "null", exact);
}

/** Return a payload as JSON. */
export function jsonText(payload) {
  return payload?.json === undefined ? JSON.stringify(payload?.value ?? {}) : new TextDecoder().decode(decode64(payload.json));
}

// Error details come as protobuf. Two messages matter here, both of strings and nested strings only.
function* fieldsOf(data) {
  let at = 0;
  const varint = () => {
    let value = 0, shift = 0, byte;
    do {
      byte = data[at++];
      value |= (byte & 127) << shift;
      shift += 7;
    } while (byte & 128);
    return value;
  };
  while (at < data.length) {
    const key = varint();
    if ((key & 7) !== 2) return;
    const length = varint();
    yield [key >> 3, data.subarray(at, at + length)];
    at += length;
  }
}

function text(value, wanted) {
  const data = typeof value === "string" ? decode64(value) : value;
  for (const [number, bytes] of fieldsOf(data)) if (number === wanted) return new TextDecoder().decode(bytes);
  return "";
}

function violations(value) {
  return [...fieldsOf(decode64(value))].filter(([number]) => number === 1).map(([, bytes]) => ({ field: text(bytes, 1), description: text(bytes, 2) }));
}
