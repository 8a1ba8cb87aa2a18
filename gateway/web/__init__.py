"""HTTP endpoints beside the connections: server API, health, the page."""
