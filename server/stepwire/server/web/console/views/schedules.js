// The schedules: when they are due, what came of it, and what can be done with them.

import { may } from "../access.js";
import { call, plain, requestId } from "../api.js";
import { confirm, h, show, toast, update } from "../dom.js";
import { ago, ahead, duration, many, moment, momentIn, shortId, span } from "../format.js";
import { labelTags } from "../parts/badge.js";
import { tree } from "../parts/json.js";
import { poll } from "../parts/poll.js";

const PAGE = 100;
const REFRESH = 2500;
const OUTCOMES = { STARTED: ["✓", "started", "good"], SKIPPED: ["–", "skipped", "neutral"], FAILED: ["✕", "failed", "bad"] };
const OVERLAPS = {
  SKIP: "skips the due time",
  QUEUE_ONE: "lets one due time wait for its end",
  QUEUE_ALL: "lets due times wait for its end",
  CANCEL_RUNNING: "cancels it and starts another one",
  START_ANYWAY: "starts another one beside it",
};

const addressOf = (schedule) => `/schedules/${encodeURIComponent(schedule.scheduleId)}`;
const outcomeOf = (due) => OUTCOMES[(due.outcome ?? "").replace("DUE_OUTCOME_", "")] ?? ["·", "unknown", "neutral"];

/** Say when a schedule is due: "0 8 * * 1-5 Europe/Oslo", "every 5 min". */
export function timingText(timing) {
  if (timing?.cron) return `${timing.cron} ${timing.timeZone || "UTC"}`;
  if (timing?.interval) return `every ${span(duration(timing.interval.every))}`;
  return timing?.at ? `once, ${moment(timing.at)}` : "never";
}

function stateOf(schedule) {
  if (schedule.pause) return h("span", { class: "badge neutral" }, "‖ paused");
  if (schedule.consecutiveFailures) return h("span", { class: "badge bad" }, `✕ failed ×${schedule.consecutiveFailures}`);
  return schedule.nextTimes?.length ? h("span", { class: "badge good" }, "✓ active") : h("span", { class: "badge neutral" }, "○ no more due times");
}

/** The last due times as marks, the newest last; those that started a run lead to it. */
function marks(schedule) {
  return h("span", { class: "marks" }, [...(schedule.last ?? [])].reverse().map((due) => {
    const [shape, text, tone] = outcomeOf(due);
    const title = `${moment(due.dueTime)}: ${text}${due.message ? `, ${due.message}` : ""}`;
    return due.runId
      ? h("a", { class: `mark ${tone}`, href: `/runs/${encodeURIComponent(due.runId)}`, title, "aria-label": title }, shape)
      : h("span", { class: `mark ${tone}`, title, role: "img", "aria-label": title }, shape);
  }));
}

/** The buttons of a schedule; `after` is called once it has been changed. */
function buttons(schedule, after) {
  const scheduleId = schedule.scheduleId;
  const act = (method, fields, then) => async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await then(await call(`ScheduleService/${method}`, { scheduleId, ...fields }));
    } catch (error) {
      toast(error.message, "error");
    } finally {
      button.disabled = false;
    }
  };
  if (!may("write", schedule.spec?.workflow)) return [];
  const started = ({ runId }) => dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: `/runs/${encodeURIComponent(runId)}` } }));
  return [
    schedule.pause
      ? h("button", { type: "button", onclick: act("ResumeSchedule", {}, after) }, "Resume")
      : h("button", { type: "button", onclick: act("PauseSchedule", { reason: "paused in the console" }, after) }, "Pause"),
    h("button", { type: "button", onclick: act("TriggerSchedule", { requestId: requestId() }, started) }, "Start a run now"),
  ];
}

export function schedulesPage(place, _, signal) {
  const workflow = new URLSearchParams(location.search).get("workflow") ?? "";
  const count = h("span", { class: "quiet" });
  const holder = h("div", null, h("p", { class: "quiet pad" }, "Loading…"));
  let wanted = PAGE;

  function card(now) {
    const next = now.nextTimes?.[0];
    return h("li", { class: "card schedule", "data-key": now.scheduleId },
      h("div", { class: "title" }, h("h2", null, h("a", { href: addressOf(now) }, now.scheduleId)), stateOf(now), h("span", { class: "actions" }, buttons(now, refresh))),
      now.spec?.description ? h("p", null, now.spec.description) : null,
      h("dl", { class: "facts" }, [
        ["Workflow", h("a", { href: `/workflows/${encodeURIComponent(now.spec?.workflow ?? "")}` }, now.spec?.workflow)],
        ["Due", h("span", { class: "mono" }, timingText(now.spec?.timing))],
        ["Next", now.pause ? "when it is resumed" : next ? h("time", { datetime: next, title: moment(next) }, ahead(next)) : "never"],
        ["Last due times", now.last?.length ? marks(now) : "none yet"],
        ["Runs", h("a", { href: `/runs?schedule=${encodeURIComponent(now.scheduleId)}` }, `${now.counts?.started ?? 0} started`)],
      ].map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))));
  }

  async function refresh() {
    const found = [];
    let token = "";
    do {
      const page = await call("ScheduleService/ListSchedules", { pageSize: PAGE, pageToken: token, workflow }, signal);
      found.push(...(page.schedules ?? []));
      token = page.nextPageToken ?? "";
    } while (token && found.length < wanted);
    count.textContent = `${found.length}${token ? "+" : ""} ${found.length === 1 ? "schedule" : "schedules"}`;
    if (found.length) update(holder, h("ul", { class: "schedules" }, found.map(card)), token ? h("button", { type: "button", onclick: () => { wanted += PAGE; refresh().catch(() => {}); } }, "Show more") : null);
    else update(holder, h("div", { class: "empty" }, h("h2", null, workflow ? "No schedule of this workflow" : "No schedules yet"), workflow ? h("a", { href: "/schedules" }, "All schedules") : [h("p", null, "A schedule starts runs at due times. Create one from a shell:"), h("pre", null, "stepwire schedule create nightly WORKFLOW --cron '0 3 * * *' key=value")]));
  }

  show(place, h("div", { class: "page" }, h("div", { class: "title" }, h("h1", null, "Schedules"), count), holder));
  poll(refresh, REFRESH, signal);
}

export async function schedulePage(place, [scheduleId], signal) {
  function paint(schedule) {
    const spec = schedule.spec ?? {};
    const counts = schedule.counts ?? {};
    const facts = [
      ["Workflow", h("a", { href: `/workflows/${encodeURIComponent(spec.workflow ?? "")}` }, spec.workflow)],
      ["Due", h("span", { class: "mono" }, timingText(spec.timing))],
      spec.timing?.jitter ? ["Later by up to", span(duration(spec.timing.jitter))] : null,
      ["Started", h("a", { href: `/runs?schedule=${encodeURIComponent(scheduleId)}` }, many(Number(counts.started ?? 0), "run"))],
      ["Skipped", counts.skipped ?? "0"],
      ["Missed", counts.missed ?? "0"],
      ["Failed", counts.failed ?? "0"],
      schedule.queued ? ["Waiting due times", schedule.queued] : null,
      ["Created by", schedule.declared ? "the code of the workflow" : schedule.createdBy || "—"],
      ["Changed", h("time", { datetime: schedule.updatedAt, title: moment(schedule.updatedAt) }, ago(schedule.updatedAt))],
      Object.keys(spec.labels ?? {}).length ? ["Labels", labelTags(spec.labels)] : null,
    ].filter(Boolean);
    const overlap = OVERLAPS[(spec.overlap ?? "").replace("OVERLAP_POLICY_", "")] ?? OVERLAPS.SKIP;
    update(
      place,
      h("div", { class: "page" },
        h("div", { class: "title" }, h("h1", null, scheduleId), stateOf(schedule), h("span", { class: "actions" }, buttons(schedule, refresh), may("schedule", spec.workflow) && !schedule.declared ? h("button", { type: "button", class: "danger", onclick: remove }, "Delete") : null)),
        spec.description ? h("p", null, spec.description) : null,
        h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
        schedule.pause ? h("p", { class: "notice" }, `Paused ${ago(schedule.pause.time)} by ${schedule.pause.by}${schedule.pause.reason ? `: ${schedule.pause.reason}` : ""}. Due times start nothing until it is resumed.`) : null,
        schedule.lastFailure && schedule.consecutiveFailures ? h("div", { class: "notice bad" }, h("strong", null, "It could not start its last run: "), `${schedule.lastFailure.message || schedule.lastFailure.reason}.`) : null,
        h("div", { class: "columns" },
          h("section", { class: "card" }, h("h2", null, "Next due times"), schedule.nextTimes?.length ? h("ul", { class: "times" }, schedule.nextTimes.map((time) => h("li", null, h("time", { datetime: time, title: `${moment(time)} here` }, momentIn(time, spec.timing?.timeZone)), h("span", { class: "quiet" }, ` ${ahead(time)}`)))) : h("p", { class: "quiet" }, schedule.pause ? "None while it is paused." : "It is not due any more.")),
          h("section", { class: "card" }, h("h2", null, "Last due times"), schedule.last?.length ? lastTimes(schedule.last) : h("p", { class: "quiet" }, "None yet.")),
          h("section", { class: "card" }, h("h2", null, "What it starts"), h("p", { class: "quiet" }, `If the run before is still under way, it ${overlap}.`), spec.input ? h("div", { "data-same": JSON.stringify(spec.input) }, tree(plain(spec.input) ?? {}, { open: 2, name: "input" })) : h("p", { class: "quiet" }, "Runs without input.")),
        ),
      ),
    );
  }

  async function remove() {
    if (!(await confirm("Delete this schedule?", "It starts no more runs. The runs that it has started stay.", "Delete"))) return;
    try {
      await call("ScheduleService/DeleteSchedule", { scheduleId });
      dispatchEvent(new CustomEvent("stepwire-go", { detail: { address: "/schedules" } }));
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async function refresh() {
    let schedule;
    try {
      ({ schedule } = await call("ScheduleService/GetSchedule", { scheduleId }, signal));
    } catch (error) {
      if (error.code !== "not_found") throw error;
      show(place, h("div", { class: "empty" }, h("h1", null, "There is no such schedule"), h("a", { href: "/schedules" }, "All schedules")));
      return;
    }
    paint(schedule);
  }

  show(place, h("p", { class: "quiet pad" }, "Loading…"));
  poll(refresh, REFRESH, signal);
}

function lastTimes(last) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Last due times" },
    h("table", null, h("thead", null, h("tr", null, ["Due", "Outcome", "Run"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, last.map((due) => {
        const [shape, text, tone] = outcomeOf(due);
        return h("tr", null,
          h("td", null, h("time", { datetime: due.dueTime }, moment(due.dueTime)), due.manual ? h("div", { class: "quiet" }, "asked for") : null),
          h("td", null, h("span", { class: `badge ${tone}` }, `${shape} ${text}`), due.message ? h("div", { class: "quiet" }, due.message) : null),
          h("td", null, due.runId ? h("a", { class: "mono clip", href: `/runs/${encodeURIComponent(due.runId)}`, title: due.runId }, shortId(due.runId)) : "—"));
      }))));
}
