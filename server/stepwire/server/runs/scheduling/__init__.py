"""Schedules: runs that start at due times. A schedule is itself a run, of an internal workflow, so it is durable."""
