"""PostgreSQL: from notifications up to a database; entries that end with their node."""
