"""Pairs of events, the second at every tick of the first."""
