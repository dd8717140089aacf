"""One file for each outside system, in a folder for each port."""
