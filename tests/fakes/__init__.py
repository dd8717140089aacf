"""Stand-ins that keep the promises of the real thing, in memory."""
