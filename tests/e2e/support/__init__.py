"""What the scenarios are built of: the service, sidecars, upstreams and callers, all real."""
