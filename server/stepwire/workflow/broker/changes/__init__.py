"""What steps change in the state: noted, found, and undone when a delivery begins again."""
