// Start a run, answer the question that it asks, and print its result.
//
//   node build/approval.js [HOST:PORT,…]

import { stdin, stdout } from "node:process";
import { createInterface } from "node:readline/promises";

import { connect } from "@stepwire/client";

const address = process.argv[2] ?? "127.0.0.1:50051";
const client = connect(address);
const run = await client.start("approval", { who: "ada", amount: 120 });
for await (const event of run.events()) {
  console.log(event.sequence, event.type, event.data);
  if (event.type === "ApprovalQuestion") await run.answer(event, { verdict: await ask(), by: "typescript" });
}
console.log("COMPLETED:", await run.result());
client.close();

/** Ask the person at the terminal. */
async function ask(): Promise<string> {
  const terminal = createInterface({ input: stdin, output: stdout });
  const line = await terminal.question("Approve? [y/n] ");
  terminal.close();
  return /^y/i.test(line) ? "approve" : "reject";
}
