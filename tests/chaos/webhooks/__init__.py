"""Webhooks of three nodes on one Redis, counted by a receiver while nodes die and roll, against what clients did."""
