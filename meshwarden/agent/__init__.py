"""The agent: gives the workloads of one node their identities."""
