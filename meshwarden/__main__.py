"""`python -m meshwarden` is the `meshwarden` command."""

from meshwarden.cli.main import main

main()
