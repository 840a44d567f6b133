"""Touch the world for a broker: tasks, threads, timers, traces."""
