"""A long mixed load on a real server, whose memory, tasks, files and threads must stay where they are."""
