"""Where decision records are kept: one file for each kind of sink."""
