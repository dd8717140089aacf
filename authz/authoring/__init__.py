"""What helps people write policy: lint, differences by rule and by effect, examples of requests."""
