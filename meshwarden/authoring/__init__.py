"""What helps people to write policy: tests of it, beside it."""
