"""Envoy's secret discovery service, over whatever has identities: an agent, or control."""
