"""Occupancy: whether a channel has a subscriber anywhere."""
