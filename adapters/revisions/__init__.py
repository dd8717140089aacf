"""Where policy revisions are kept: one file a kind of database, over the SQL that all share."""
