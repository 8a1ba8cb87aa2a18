"""Settings of the page for operators."""

from gateway.config.settings.section import Section


class AdminSettings(Section):
    """The page for operators at /admin."""

    enabled: bool = False
    """Serve it."""
    password: str = ""
    """What operators log in with."""
    secret: str = ""
    """Signs their sessions, together with the password; by default that alone does. A change of either ends them."""
    insecure: bool = False
    """Ask nobody for it. For trying out only."""
