"""The commits of runs: how one is made, one in flight at a time for each run, and who waits for one."""
