"""Save values as tagged JSON and load them again."""
