"""Apps of the Pusher protocol: which there are, and what their secrets sign."""
