"""Commands that nobody thought of, and what a session says to them: nothing but documented answers."""
