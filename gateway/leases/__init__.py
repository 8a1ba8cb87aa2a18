"""Leases: one holder at a time, on all nodes."""
