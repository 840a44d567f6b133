"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os

from hypothesis import settings

# Shared machines stall: a slow example is no failure, pytest-timeout bounds the whole test.
settings.register_profile("default", deadline=None)
# In CI the same examples every time, so that a failure there repeats here.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
