"""The server as a process: its signals, its children, its end. None of it depends on the event loop."""
