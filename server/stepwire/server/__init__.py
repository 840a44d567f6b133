"""Host workflows behind gRPC and HTTP: `app.Server` composes the rooms, `process` runs it."""
