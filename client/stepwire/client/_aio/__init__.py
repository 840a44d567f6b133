"""Drive the core with grpc.aio."""
