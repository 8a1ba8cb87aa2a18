"""The gateway as a server of its own: command line, server, application."""
