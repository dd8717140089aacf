"""Where identities are kept: one file for each store of them, over one kind of database."""
