// The client in Node.js, over gRPC.

import type { SecureClientSessionOptions } from "node:http2";
import { isIP } from "node:net";

import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";

import { Client, type Options, bearer } from "./client.js";

export * from "./index.js";

/** The certificates of a connection, as PEM: `ca` to trust, `cert` and `key` of the client. */
export type Certificates = { ca?: string | Uint8Array; cert?: string | Uint8Array; key?: string | Uint8Array };

/** Settings of a client in Node.js. */
export type NodeOptions = Options & {
  /** Encrypt connections: true for the system's roots, or certificates. */
  tls?: boolean | Certificates;
  /** Allow a token to go unencrypted to another machine. */
  plainToken?: boolean;
};

/** Return a client of the server at HOST:PORT, or of several replicas, separated by commas. It connects with the first call. */
export function connect(addresses: string, options: NodeOptions = {}): Client {
  const { tls = false, token, plainToken = false, interceptors = [] } = options;
  // Another address could take the calls of a replica that hangs: a silent connection is found out in 8 seconds.
  const several = addresses.includes(",");
  const pings = several ? { pingIntervalMs: 3000, pingTimeoutMs: 5000 } : { pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };
  const connections = addresses.split(",").map((given) => {
    const address = given.trim();
    if (!/^(\[[0-9a-f:]+\]|[^:/\s[\]]+):\d+$/i.test(address)) throw new TypeError(`an address is HOST:PORT, not "${address}"`);
    if (token && !tls && !plainToken && !isLocal(address)) {
      throw new TypeError(`a token would go unencrypted to ${address}: set tls, or plainToken to allow it`);
    }
    const baseUrl = `${tls ? "https" : "http"}://${address}`;
    const certificates = typeof tls === "object" ? (tls as SecureClientSessionOptions) : undefined;
    const sessionManager = new Http2SessionManager(baseUrl, pings, certificates);
    const all = token ? [bearer(token), ...interceptors] : interceptors;
    const transport = createGrpcTransport({ baseUrl, sessionManager, interceptors: all });
    return { address, transport, close: () => void sessionManager.abort() };
  });
  return new Client(connections, options, true);
}

/** Say whether calls to an address stay on this machine. */
function isLocal(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
