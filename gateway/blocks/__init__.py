"""The block list: users that may not connect to any node."""
