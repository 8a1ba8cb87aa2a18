"""A program's part: channels as routes, plain WebSockets, the gateway of an application."""
