"""The official SDKs, and a raw WebSocket, behind interfaces that tests can drive."""
