"""Read what a class of steps says: signatures, validation, routing, the graph."""
