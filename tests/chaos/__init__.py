"""Several nodes on a Redis that comes and goes, checked against a model."""
