"""A program as a module, read once for each node."""

from tests.testing.chat import create_app

app = create_app()
