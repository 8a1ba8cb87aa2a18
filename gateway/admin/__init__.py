"""The page for operators: what it shows, what it does, and who may."""
