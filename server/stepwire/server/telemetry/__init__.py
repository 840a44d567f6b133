"""What a server shows of itself: metrics, logs, traces, readiness, the watchdog. It is below all rooms that count."""
