// Who the caller is, so that the console offers nothing that the server would refuse. The server decides all the same.

import { call } from "./api.js";

const ALLOWS = {
  answer: ["answer"],
  read: ["read"],
  write: ["answer", "read", "write"],
  schedule: ["answer", "read", "write", "schedule"],
  admin: ["answer", "read", "write", "schedule", "admin"],
};

/** The caller; `scopes` is null as long as it is not known. */
export const caller = { principal: "", namespaces: [], scopes: null, expiresAt: "" };

/** Ask the server who the caller is. */
export async function learn() {
  try {
    const me = await call("ServerService/WhoAmI", {});
    Object.assign(caller, { principal: me.principal ?? "", namespaces: me.namespaces ?? [], scopes: me.scopes ?? [], expiresAt: me.expiresAt ?? "" });
  } catch {
    // No connection, or no credential yet: everything is offered, and the server answers.
  }
}

/** Whether the caller may do something ("answer", "read", "write", "schedule", "admin") with a workflow; without one, with any. */
export function may(action, workflow) {
  if (!caller.scopes) return true;
  return caller.scopes.some((scope) => {
    const at = scope.indexOf(":");
    const allows = ALLOWS[at < 0 ? scope : scope.slice(0, at)] ?? [];
    return allows.includes(action) && (at < 0 || workflow === undefined || scope.slice(at + 1) === workflow);
  });
}
