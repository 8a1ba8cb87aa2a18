"""Side-by-side runs of the gateway and its peers: ``bench/run``."""
