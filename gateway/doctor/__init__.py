"""First aid for operators and programmers: what is wrong, and what would be right."""
