"""`meshwarden policy`: is it fit to be served, before it is."""

import typer

from meshwarden.cli import (
    policy_apply,
    policy_bundle,
    policy_cases,
    policy_check,
    policy_diff,
    policy_edit,
    policy_history,
    policy_lint,
    policy_questions,
    policy_roles,
    policy_rows,
    policy_shadow,
    policy_tables,
)
from meshwarden.cli.remote import RemoteCommand

__all__ = ["app"]

app = typer.Typer(name="policy", help="Check a policy and look into it.", no_args_is_help=True)

app.command("check")(policy_check.check)
app.command("test")(policy_cases.run_tests)
app.command("bench")(policy_cases.bench)
app.command("lint")(policy_lint.lint)
app.command("diff", cls=RemoteCommand)(policy_diff.diff)
app.command("plan", cls=RemoteCommand)(policy_questions.plan)
app.command("who-can", cls=RemoteCommand)(policy_questions.who_can)
app.command("what-can", cls=RemoteCommand)(policy_questions.what_can)
app.command("get", cls=RemoteCommand)(policy_rows.get)
app.command("list", cls=RemoteCommand)(policy_rows.list_rules)
app.command("apply", cls=RemoteCommand)(policy_apply.apply)
app.command("rollback", cls=RemoteCommand)(policy_apply.rollback)
app.command("allow", cls=RemoteCommand)(policy_edit.allow)
app.command("deny", cls=RemoteCommand)(policy_edit.deny)
app.command("revoke", cls=RemoteCommand)(policy_edit.revoke)
app.add_typer(policy_roles.app)
app.command("import", cls=RemoteCommand)(policy_tables.import_table)
app.command("export", cls=RemoteCommand)(policy_tables.export)
app.command("history", cls=RemoteCommand)(policy_history.history)
app.command("show", cls=RemoteCommand)(policy_history.show_revision)
app.command("watch", cls=RemoteCommand)(policy_history.watch)
app.command("audit", cls=RemoteCommand)(policy_history.audit)
app.add_typer(policy_bundle.app)
app.add_typer(policy_shadow.app)
