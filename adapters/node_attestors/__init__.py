"""Node attestors: one file for each way in which a node says which one it is."""
