"""The Autobahn test suite: 517 cases of what RFC 6455 and RFC 7692 demand of a server."""
