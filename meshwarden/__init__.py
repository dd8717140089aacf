"""Assembly: the command, the configuration and the processes."""
