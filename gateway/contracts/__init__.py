"""Contracts: what clients may send to a program and what they get, as documents, pages and typed clients."""
