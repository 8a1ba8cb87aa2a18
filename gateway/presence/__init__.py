"""Presence stores: who is subscribed, on all nodes."""
