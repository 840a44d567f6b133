"""Waits of steps for events and time, and the bodies that park in them."""
