"""The log of a run: cut into chunks by `chunks`, followed by readers through `feed`."""
