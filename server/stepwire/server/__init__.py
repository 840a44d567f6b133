"""Host workflows behind gRPC: registry, runs, store, rpc, auth, telemetry, config, cli."""
