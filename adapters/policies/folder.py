"""Policy read from a folder of CSV files."""
