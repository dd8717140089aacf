"""Who may do what: the policy engine and the edge that Envoy asks."""
