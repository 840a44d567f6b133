"""Drive the core with blocking gRPC."""
