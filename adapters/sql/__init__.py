"""SQL that every database adapter shares: tables, migrations, statements."""
