"""Rate limits and quotas, declared once for a route and a channel alike."""
