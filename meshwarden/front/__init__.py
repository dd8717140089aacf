"""A front: an Envoy with Python inside."""
