"""Store runs in SQLite, in one directory, with one writer thread."""
