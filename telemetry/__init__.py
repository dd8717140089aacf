"""What happened: records of decisions."""
