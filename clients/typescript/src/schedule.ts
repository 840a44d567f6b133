// Schedules, which start runs at due times.

import { create } from "@bufbuild/protobuf";

import type { CallOptions, Client } from "./client.js";
import {
  OverlapPolicy,
  type Schedule as ScheduleInfo,
  ScheduleIntervalSchema,
  ScheduleService,
  type ScheduleSpec as SpecMessage,
  type ScheduleTiming,
  ScheduleTimingSchema,
} from "./gen/stepwire/v1/schedule_service_pb.js";
import { toDuration, toPayload, toTimestamp } from "./payload.js";
import type { Run } from "./run.js";

/** When a schedule is due: by a cron expression, UTC unless a time zone is given; every so many milliseconds; or once. */
export type When = { cron: string; timeZone?: string } | { every: number; anchor?: Date } | { at: Date };

/** What a schedule does. Times without a date are milliseconds. */
export type ScheduleSpec = {
  /** The workflow whose runs it starts. */
  workflow: string;
  when: When;
  /** The fields of the start event. */
  input?: object;
  /** What a due time does while an earlier run has not ended. Default: skip. */
  overlap?: "skip" | "queue_one" | "queue_all" | "cancel_running" | "start_anyway";
  /** Due times that passed while no server ran are made up for if they passed this short ago. Default: a day. */
  catchUpWindow?: number;
  /** Runs start up to this long after their due times. */
  jitter?: number;
  /** No due time is before this one. */
  startTime?: Date;
  /** No due time is at or after this one. */
  endTime?: Date;
  /** How long a run may take. */
  runTimeout?: number;
  /** The labels of the schedule and of its runs. */
  labels?: { [name: string]: string };
  /** What it is for, for people. */
  description?: string;
};

/** A schedule on the server. Its methods throw StepwireError with the reason SCHEDULE_NOT_FOUND when there is none. */
export class Schedule {
  constructor(
    readonly client: Client,
    readonly id: string,
  ) {}

  /** Return the schedule as the server knows it: what it does, its last and next times. */
  async info(options?: CallOptions): Promise<ScheduleInfo> {
    return (await this.client.call(ScheduleService.method.getSchedule, { scheduleId: this.id }, options)).schedule!;
  }

  /** Change some of what the schedule does; begin again if another changes it meanwhile. undefined removes a bound. */
  async update(changes: Partial<ScheduleSpec>, options?: CallOptions): Promise<void> {
    await this.client.untilUnchanged(async () => {
      const { spec, etag } = await this.info(options);
      change(spec!, changes);
      await this.client.call(ScheduleService.method.updateSchedule, { scheduleId: this.id, spec, etag }, options);
    }, options);
  }

  /** Have due times start nothing until `resume`. */
  async pause(reason = "", options?: CallOptions): Promise<void> {
    await this.client.call(ScheduleService.method.pauseSchedule, { scheduleId: this.id, reason }, options);
  }

  /** End the pause. Due times that passed meanwhile start nothing. */
  async resume(options?: CallOptions): Promise<void> {
    await this.client.call(ScheduleService.method.resumeSchedule, { scheduleId: this.id }, options);
  }

  /** Start a run now. */
  async trigger(options?: CallOptions): Promise<Run> {
    const { runId } = await this.client.call(ScheduleService.method.triggerSchedule, { scheduleId: this.id }, options);
    return this.client.run(runId);
  }

  /** Delete the schedule. Its runs stay. */
  async delete(options?: CallOptions): Promise<void> {
    await this.client.call(ScheduleService.method.deleteSchedule, { scheduleId: this.id }, options);
  }

  /**
   * Have the due times of a range in the past start their runs, in the background: one after another, or all at once.
   * Return how many there are.
   */
  async backfill(from: Date, to: Date, { atOnce = false, ...options }: CallOptions & { atOnce?: boolean } = {}): Promise<number> {
    const range = { startTime: toTimestamp(from, "from"), endTime: toTimestamp(to, "to") };
    const request = { scheduleId: this.id, ...range, atOnce };
    return (await this.client.call(ScheduleService.method.backfillSchedule, request, options)).dueTimes;
  }
}

/** Change a message to what a caller says. */
export function change(spec: SpecMessage, changes: Partial<ScheduleSpec>): SpecMessage {
  const timing = (spec.timing ??= create(ScheduleTimingSchema));
  const { when, overlap } = changes;
  if (when) timing.when = dueBy(when);
  if (when) timing.timeZone = ("cron" in when && when.timeZone) || "";
  if (overlap) spec.overlap = OverlapPolicy[overlap.toUpperCase() as keyof typeof OverlapPolicy];
  if ("jitter" in changes) timing.jitter = given(changes.jitter, toDuration, "jitter");
  if ("startTime" in changes) timing.startTime = given(changes.startTime, toTimestamp, "startTime");
  if ("endTime" in changes) timing.endTime = given(changes.endTime, toTimestamp, "endTime");
  if ("input" in changes) spec.input = changes.input && toPayload(changes.input, "input");
  if ("catchUpWindow" in changes) spec.catchUpWindow = given(changes.catchUpWindow, toDuration, "catchUpWindow");
  if ("runTimeout" in changes) spec.runTimeout = given(changes.runTimeout, toDuration, "runTimeout");
  const { workflow = spec.workflow, labels = spec.labels, description = spec.description } = changes;
  return Object.assign(spec, { workflow, labels, description });
}

function dueBy(when: When): ScheduleTiming["when"] {
  if ("cron" in when) return { case: "cron", value: when.cron };
  if ("at" in when) return { case: "at", value: toTimestamp(when.at, "when.at") };
  const every = toDuration(when.every, "when.every");
  const anchor = given(when.anchor, toTimestamp, "when.anchor");
  return { case: "interval", value: create(ScheduleIntervalSchema, { every, anchor }) };
}

/** Encode what may be left out. */
const given = <T, M>(value: T | null | undefined, encode: (value: T, field: string) => M, field: string): M | undefined =>
  value === undefined || value === null ? undefined : encode(value, field);
