"""Brokers: carry publications between nodes, keep their history."""
