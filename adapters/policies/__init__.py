"""Where policy comes from: implementations of authz.policy_source.PolicySource."""
