"""One small program each: what the tutorials show, on any number of instances."""
