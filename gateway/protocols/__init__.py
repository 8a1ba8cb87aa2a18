"""Wire formats: bytes to messages and back."""
