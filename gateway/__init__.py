"""A horizontally scaled WebSocket gateway for FastAPI."""

__version__ = "0.1.0"
