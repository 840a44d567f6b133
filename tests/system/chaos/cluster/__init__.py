"""Chaos with replicas: kills, pauses, cuts and failing databases against three servers on one PostgreSQL."""
