"""What the tests share lives here and in fakes/; `from tests.fakes...` works from any test."""
