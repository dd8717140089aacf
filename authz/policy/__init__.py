"""The policy engine: Casbin's language, compiled and indexed; pure from end to end."""
