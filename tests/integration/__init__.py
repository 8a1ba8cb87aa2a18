"""Tests with real servers, real balancers and the official SDKs."""
