"""The tests of the gateway: each module of the package has its own, ``integration`` has them all at once."""
