// Talk to the two agents of examples/agents.py: print what they say and which tools they call, and approve.
//
//   node build/agents.js [HOST:PORT,…]

import { stdin, stdout } from "node:process";
import { createInterface } from "node:readline/promises";

import { connect } from "@stepwire/client";

const client = connect(process.argv[2] ?? "127.0.0.1:50051");
const run = await client.start("team", { user_msg: "Please refund my order A-17" });
for await (const event of run.events()) {
  const data = event.data as Record<string, unknown>;
  if (event.type === "AgentStream") stdout.write(String(data.delta));
  else if (event.type === "ToolCall") console.log(`[${data.tool_name} ${JSON.stringify(data.tool_kwargs)}]`);
  else if (event.type === "InputRequiredEvent") await run.answer(event, { approved: await ask(String(data.text)) });
}
stdout.write("\n");
client.close();

/** Ask the person at the terminal. */
async function ask(question: string): Promise<boolean> {
  const terminal = createInterface({ input: stdin, output: stdout });
  const line = await terminal.question(`${question} [y/n] `);
  terminal.close();
  return /^y/i.test(line);
}
