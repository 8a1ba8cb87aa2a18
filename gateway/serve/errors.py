"""Why the gateway cannot be served."""


class ServeError(Exception):
    """The gateway cannot be served. The text is for the operator."""
