"""The kit's fixtures, under the names that users have."""

from gateway.testing.plugin import fake_redis_url, gateway_app, kit, kit_options

__all__ = ["fake_redis_url", "gateway_app", "kit", "kit_options"]
