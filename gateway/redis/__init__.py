"""Redis: its protocol, connections that look after themselves, keys, scripts, and entries owned by nodes."""
