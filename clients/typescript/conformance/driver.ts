// Run the conformance table (tests/system/conformance/README.md says how to read it).
//
//   node build/driver.js TABLE.json          over gRPC, as in Node.js
//   node build/driver.js --web TABLE.json    over Connect, as in browsers
//   node build/driver.js walk ADDRESSES RUN_ID COUNT

import { readFileSync } from "node:fs";

import { type DescMethodUnary, fromJson, toJson } from "@bufbuild/protobuf";

import { type CallOptions, type Client, StepwireError, connect } from "@stepwire/client/node";
import { connect as connectWeb } from "@stepwire/client/web";
import { type Json, type JsonObject, Mismatch, at, check, isObject, short, substitute } from "./pattern.js";
import { Ended, Stream } from "./stream.js";
import { errorOf, methodOf, rawMethod } from "./wire.js";

type Scenario = { name: string; server?: string; steps: JsonObject[] };
type Addresses = { [name: string]: string };
type Table = { servers: Addresses; web?: Addresses; vars: JsonObject; scenarios: Scenario[] };

async function main(file: string, web: boolean): Promise<void> {
  const table = JSON.parse(readFileSync(file, "utf8")) as Table;
  const open = web ? connectWeb : connect;
  // The table says what a call ends with, so the client must not repeat it.
  const clients = new Map(
    Object.entries((web && table.web) || table.servers).map(([name, address]) => [name, open(address, { repeats: false })]),
  );
  for (const scenario of table.scenarios) {
    const run = new Run(clients.get(scenario.server ?? "main")!, { ...table.vars });
    const detail = await run.all(scenario.steps);
    const { code = "", reason = "" } = run.lastError;
    console.log(JSON.stringify({ scenario: scenario.name, ok: detail === "", detail, code, reason }));
  }
  for (const client of clients.values()) client.close();
}

class Run {
  lastError: JsonObject = {};
  private readonly streams = new Map<string, Stream>();

  constructor(
    private readonly client: Client,
    private readonly variables: JsonObject,
  ) {}

  /** Do the steps; return what failed, or "". */
  async all(steps: JsonObject[]): Promise<string> {
    try {
      for (const [number, step] of steps.entries()) {
        try {
          await this.step(step);
        } catch (error) {
          return `step ${number}: ${error instanceof Error ? error.message : String(error)}`;
        }
      }
      return "";
    } finally {
      for (const stream of this.streams.values()) stream.cut();
    }
  }

  private async step(written: JsonObject): Promise<void> {
    const document = await this.do(substitute(written, this.variables) as JsonObject);
    for (const [name, path] of Object.entries((written["save"] as JsonObject | undefined) ?? {})) {
      this.variables[name] = at(document, path as string);
    }
  }

  /** Do one step; return what it may save from. */
  private async do(step: JsonObject): Promise<Json | undefined> {
    if (typeof step["call"] === "string") return this.call(step["call"], step);
    const name = (step["stream"] as string | undefined) ?? "main";
    if (typeof step["open"] === "string") {
      const request = (step["request"] as JsonObject | undefined) ?? {};
      this.streams.set(name, Stream.open(this.client, step["open"], request, options(step, 30_000), this.met));
      return undefined;
    }
    const stream = this.streams.get(name);
    if (!stream) throw new Mismatch(`no stream ${name} is open`);
    if (isObject(step["send"])) return void stream.send(step["send"]);
    if (Array.isArray(step["receive"])) {
      let item: JsonObject | undefined;
      for (const pattern of step["receive"]) {
        item = await stream.take();
        check(pattern, item, "the item");
      }
      return item;
    }
    if (step["until"] !== undefined) {
      for (;;) {
        const item = await stream.take();
        if (matches(step["until"], item)) return item;
      }
    }
    if (step["half_close"]) return void stream.halfClose();
    if (step["cut"]) return void stream.cut();
    if (step["end"]) return this.end(stream, step["error"]);
    throw new Mismatch("the step has no verb");
  }

  private async call(name: string, step: JsonObject): Promise<JsonObject | undefined> {
    let document: JsonObject | undefined;
    try {
      document = await this.answer(name, step);
    } catch (error) {
      if (!(error instanceof StepwireError)) throw error;
      const failure = this.met(errorOf(error));
      if (step["error"] === undefined) throw new Mismatch(`the call failed: ${short(failure)}`);
      check(step["error"], failure, "the error");
      return failure;
    }
    if (step["error"] !== undefined) throw new Mismatch("the call succeeded");
    check(step["expect"] ?? {}, document, "the response");
    return document;
  }

  private async answer(name: string, step: JsonObject): Promise<JsonObject | undefined> {
    if (typeof step["raw"] === "string") {
      const { method, request } = rawMethod(name, Buffer.from(step["raw"], "base64"));
      await this.client.call(method, request, options(step, 15_000));
      return undefined;
    }
    const method = methodOf(name) as DescMethodUnary;
    const request = fromJson(method.input, (step["request"] as JsonObject | undefined) ?? {});
    return toJson(method.output, await this.client.call(method, request, options(step, 15_000))) as JsonObject;
  }

  private async end(stream: Stream, pattern: Json | undefined): Promise<undefined> {
    let ended: Ended;
    try {
      throw new Mismatch(`the stream goes on with ${short(await stream.take())}`);
    } catch (error) {
      if (!(error instanceof Ended)) throw error;
      ended = error;
    }
    if (pattern === undefined && ended.failure) throw ended;
    if (pattern !== undefined && !ended.failure) throw new Mismatch("the stream ended without an error");
    if (pattern !== undefined) check(pattern, ended.failure, "the error");
  }

  private readonly met = (error: JsonObject): JsonObject => (this.lastError = error);
}

function options(step: JsonObject, standard: number): CallOptions {
  const headers = (step["headers"] as { [name: string]: string } | undefined) ?? {};
  return { headers, timeout: (step["deadline_ms"] as number | undefined) ?? standard };
}

function matches(pattern: Json, item: Json): boolean {
  try {
    check(pattern, item, "");
    return true;
  } catch (error) {
    if (error instanceof Mismatch) return false;
    throw error;
  }
}

function version(transport = "@connectrpc/connect-node"): string {
  const read = (name: string): string => {
    const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
    return `${name} ${(JSON.parse(readFileSync(file, "utf8")) as { version: string }).version}`;
  };
  return [`Node ${process.versions.node}`, ...[transport, "@bufbuild/protobuf", "typescript"].map(read)].join(", ");
}

/** Call GetRun some times, with a token. */
async function walk(addresses: string, runId: string, count: number): Promise<void> {
  const client = connect(addresses, { token: "secret" });
  for (let done = 0; done < count; done++) await client.run(runId).info();
  client.close();
}

const [first = "", second] = process.argv.slice(2);
if (first === "--version") console.log(version(second));
else if (first === "walk") await walk(second!, process.argv[4]!, Number(process.argv[5]));
else await main(second ?? first, first === "--web");
