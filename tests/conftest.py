"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Tests that are run in the background may ignore SIGINT, and so would the commands that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Shared machines stall: a slow example is no failure, pytest-timeout bounds the whole test.
settings.register_profile("default", deadline=None)
# In CI the same examples every time, so that a failure there repeats here.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
