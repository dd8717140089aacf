"""Alembic migrations of the revision store."""
