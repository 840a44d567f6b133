"""Admit calls: authentication, authorization, limits, and the status of whatever fails."""
