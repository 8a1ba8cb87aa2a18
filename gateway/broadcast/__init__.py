"""A `broadcaster` backend, from its interface up to a line between the nodes that is supervised."""
