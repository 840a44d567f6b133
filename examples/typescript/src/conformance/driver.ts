// Run the conformance table (tests/system/conformance/README.md says how to read it).
//
//   node build/conformance/driver.js TABLE.json

import { readFileSync } from "node:fs";

import { type DescMethodUnary, create, fromJson, toJson } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { StepwireClient } from "../client.js";
import { type Json, type JsonObject, Mismatch, at, check, isObject, short, substitute } from "./pattern.js";
import { Ended, Stream } from "./stream.js";
import { errorOf, isServiceError, methodOf } from "./wire.js";

type Scenario = { name: string; server?: string; steps: JsonObject[] };
type Table = { servers: { [name: string]: string }; vars: JsonObject; scenarios: Scenario[] };

async function main(file: string): Promise<void> {
  const table = JSON.parse(readFileSync(file, "utf8")) as Table;
  const clients = new Map(
    Object.entries(table.servers).map(([name, address]) => [name, new StepwireClient(address)]),
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
    private readonly client: StepwireClient,
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
      const limit = (step["deadline_ms"] as number | undefined) ?? 30_000;
      this.streams.set(name, Stream.open(this.client, step["open"], request, limit, headers(step), this.met));
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
    const options = { deadline: Date.now() + ((step["deadline_ms"] as number | undefined) ?? 15_000) };
    let document: JsonObject | undefined;
    try {
      document = await this.answer(name, step, options);
    } catch (error) {
      if (!isServiceError(error)) throw error;
      const failure = this.met(errorOf(error));
      if (step["error"] === undefined) throw new Mismatch(`the call failed: ${short(failure)}`);
      check(step["error"], failure, "the error");
      return failure;
    }
    if (step["error"] !== undefined) throw new Mismatch("the call succeeded");
    check(step["expect"] ?? {}, document, "the response");
    return document;
  }

  private async answer(name: string, step: JsonObject, options: grpc.CallOptions): Promise<JsonObject | undefined> {
    const { path, method } = methodOf(name);
    if (typeof step["raw"] === "string") {
      const data = Buffer.from(step["raw"], "base64");
      await new Promise<void>((resolve, reject) => {
        const same = (bytes: Buffer): Buffer => bytes;
        this.client.channel.makeUnaryRequest(path, same, same, data, headers(step), options, (error) =>
          error ? reject(error) : resolve(),
        );
      });
      return undefined;
    }
    if (method?.methodKind !== "unary") throw new Mismatch(`there is no unary ${name}`);
    const unary = method as DescMethodUnary;
    const request = step["request"] === undefined ? create(unary.input) : fromJson(unary.input, step["request"]);
    return toJson(unary.output, await this.client.call(unary, request, options, headers(step))) as JsonObject;
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

function headers(step: JsonObject): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries((step["headers"] as JsonObject | undefined) ?? {})) {
    metadata.set(name, value as string);
  }
  return metadata;
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

function version(): string {
  const read = (name: string): string => {
    const file = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
    return `${name} ${(JSON.parse(readFileSync(file, "utf8")) as { version: string }).version}`;
  };
  return [`Node ${process.versions.node}`, ...["@grpc/grpc-js", "@bufbuild/protobuf", "typescript"].map(read)].join(", ");
}

const argument = process.argv[2] ?? "";
if (argument === "--version") console.log(version());
else await main(argument);
