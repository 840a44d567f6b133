"""Build requests, read responses, decide retries: everything of the client that needs no I/O."""
