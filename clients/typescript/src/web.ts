// The client in browsers, over the Connect protocol.

import { createConnectTransport } from "@connectrpc/connect-web";

import { Client, type Options, bearer } from "./client.js";

export * from "./index.js";

/**
 * Return a client of the web address of a server, such as http://127.0.0.1:50080, or of several replicas, separated by
 * commas. Without an address it calls the server that the page came from.
 */
export function connect(addresses: string = globalThis.location?.origin, options: Options = {}): Client {
  const { token, interceptors = [] } = options;
  const all = token ? [bearer(token), ...interceptors] : interceptors;
  const connections = addresses.split(",").map((given) => {
    const address = given.trim();
    if (!/^https?:\/\//.test(address)) throw new TypeError(`an address is a URL such as http://HOST:PORT, not "${address}"`);
    const left = new AbortController();
    const fetching: typeof fetch = async (input, init = {}) => {
      const signal = init.signal ? AbortSignal.any([init.signal, left.signal]) : left.signal;
      return await fetch(input, { ...init, signal });
    };
    const transport = createConnectTransport({ baseUrl: address, interceptors: all, useBinaryFormat: true, fetch: fetching });
    return { address, transport, close: () => left.abort() };
  });
  return new Client(connections, options);
}
