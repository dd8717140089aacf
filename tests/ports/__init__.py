"""Suites that every adapter of a port joins by existing."""
