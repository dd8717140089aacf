"""What adapters and others need of files."""
