"""Settings: every option, where they come from, and what contradicts what."""
