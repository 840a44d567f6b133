"""Hold the state of a run: paths, the store, copies, serializers."""
