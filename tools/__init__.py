"""Programs of the people who work on the project; none is installed."""
