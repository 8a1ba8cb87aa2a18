"""The outbox: what webhooks have to tell, from the moment at which it happens until it is told."""
