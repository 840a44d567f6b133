"""Cut the log into chunks and follow it."""
