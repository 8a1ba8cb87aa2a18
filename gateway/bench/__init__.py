"""A load generator: many clients, as cheap as Python makes them, to size a deployment and to compare servers.

``processes.run(Plan(...))`` does it all; ``load.Load`` is what one process does.
"""
