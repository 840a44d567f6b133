// Start an approval, follow it, and answer its question: plain JavaScript, nothing to install.

const SERVER = new URLSearchParams(location.search).get("server") ?? "http://127.0.0.1:50080";

async function call(method, request) {
  const response = await fetch(`${SERVER}/stepwire.v1.RunService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body.message);
  return body;
}

function tell(text) {
  const line = document.createElement("li");
  line.textContent = text;
  document.getElementById("log").append(line);
}

document.getElementById("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { who, amount } = Object.fromEntries(new FormData(event.target));
  const input = { value: { who, amount, purpose: "a keyboard" } };
  const { run } = await call("StartRun", { workflow: "approval", input, requestId: crypto.randomUUID() });
  tell(`started ${run.runId}`);

  const events = new EventSource(`${SERVER}/v1/runs/${run.runId}/events`);
  events.addEventListener("ApprovalQuestion", (sent) => ask(run.runId, JSON.parse(sent.data)));
  events.addEventListener("end", (sent) => {
    events.close();
    tell(`ended: ${JSON.parse(sent.data).result}`);
  });
});

function ask(runId, question) {
  const form = document.getElementById("answer");
  document.getElementById("question").textContent = question.text;
  form.hidden = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    form.hidden = true;
    const verdict = event.submitter.value;
    const value = { expense_id: question.expense_id, verdict, by: "a browser" };
    await call("SendEvent", { runId, event: { type: "ApprovalAnswer", payload: { value } }, requestId: crypto.randomUUID() });
    tell(`answered: ${verdict}`);
  };
}
