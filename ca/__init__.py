"""Who is who: identities of workloads."""
