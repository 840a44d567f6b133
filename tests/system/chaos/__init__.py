"""Crashes, cuts and full disks against a real server, and a checker that reads what its clients saw."""
