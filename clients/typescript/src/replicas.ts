// Which address a call goes to.

import type { Transport } from "@connectrpc/connect";

import type { StepwireError } from "./errors.js";

/** The metadata in which a server says at which address a run lives. */
const OWNER = "stepwire-owner";

/** A connection to one address. */
export type Connection = { address: string; transport: Transport; close: () => void };

/**
 * The connections to all addresses. An address that a server names is only ever a choice among those that the caller
 * gave: no credential goes anywhere else.
 */
export class Replicas {
  #current = 0;
  readonly #closed = new AbortController();
  readonly #owners = new Map<string, number>();

  constructor(readonly connections: Connection[]) {}

  /** Return the number of the connection for a run; "" is a call about no run that is known. */
  pick(runId: string): number {
    return this.#owners.get(runId) ?? this.#current;
  }

  /** Learn from the trailer of an answer where a run lives. */
  heard(runId: string, trailer: Headers): void {
    const index = this.connections.findIndex(({ address }) => address === trailer.get(OWNER));
    if (index < 0 || !runId) return;
    if (this.#owners.size >= 10_000) this.#owners.clear(); // bounds what a client remembers
    this.#owners.set(runId, index);
  }

  /**
   * Return how many milliseconds an attempt may take, after so many that failed. Where another address could take the
   * call, they are a few seconds, with some chance in them, then twice that, then all that is left: a call that takes long
   * itself comes through, and replicas that are all slow get three calls for one at most. What is silent for good reason, a
   * wait, gets half of the time that is left.
   */
  limit(failed: number, left: number, silent: boolean): number {
    if (failed >= Math.min(2, this.connections.length - 1)) return left;
    const patience = silent ? left : (3000 + 2000 * Math.random()) * 2 ** failed;
    return Math.min(left, Math.max(1000, Math.min(patience, left / 2)));
  }

  /** Turn away from an address that did not answer, and forget the runs there. */
  failed(index: number): void {
    for (const [run, owner] of this.#owners) if (owner === index) this.#owners.delete(run);
    if (this.#current === index) this.#current = (index + 1) % this.connections.length;
  }

  /**
   * Wait before the next attempt: not at all while there are addresses that were not tried, then ever longer. Return
   * false when there is no time left, or the client was closed.
   */
  async pause(failures: number, error: StepwireError, left: number, signal?: AbortSignal): Promise<boolean> {
    const round = Math.floor(failures / this.connections.length) - 1;
    // A server that is down bears no load, and should be found soon when it is back.
    const most = error.reason || !/ECONNREFUSED|fetch failed/.test(error.message) ? 5000 : 1000;
    const full = Math.min(most, 100 * 2 ** Math.min(round, 10));
    const delay = round < 0 ? 0 : Math.max(error.retryAfter, full * (0.5 + Math.random() / 2));
    const ends = AbortSignal.any([this.#closed.signal, ...(signal ? [signal] : [])]);
    if (delay >= left || ends.aborted) return false;
    return await new Promise((resolve) => {
      const timer = setTimeout(resolve, delay, true);
      ends.addEventListener("abort", () => (clearTimeout(timer), resolve(false)));
    });
  }

  close(): void {
    this.#closed.abort();
    for (const connection of this.connections) connection.close();
  }
}
