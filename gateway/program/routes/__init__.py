"""Channels as routes: the program's handlers, and how its dependencies and models are solved for them."""
