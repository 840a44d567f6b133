"""Serve the contract: one servicer for each service."""
