"""What happened in a run: for readers in process, and for a host that makes it durable."""
