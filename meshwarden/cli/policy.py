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

__all__ = ["app"]

app = typer.Typer(name="policy", help="Check a policy and look into it.", no_args_is_help=True)

app.command("check")(policy_check.check)
app.command("test")(policy_cases.run_tests)
app.command("bench")(policy_cases.bench)
app.command("lint")(policy_lint.lint)
app.command("diff")(policy_diff.diff)
app.command("plan")(policy_questions.plan)
app.command("who-can")(policy_questions.who_can)
app.command("what-can")(policy_questions.what_can)
app.command("get")(policy_rows.get)
app.command("list")(policy_rows.list_rules)
app.command("apply")(policy_apply.apply)
app.command("rollback")(policy_apply.rollback)
app.command("allow")(policy_edit.allow)
app.command("deny")(policy_edit.deny)
app.command("revoke")(policy_edit.revoke)
app.add_typer(policy_roles.app)
app.command("import")(policy_tables.import_table)
app.command("export")(policy_tables.export)
app.command("history")(policy_history.history)
app.command("show")(policy_history.show_revision)
app.command("watch")(policy_history.watch)
app.command("audit")(policy_history.audit)
app.add_typer(policy_bundle.app)
app.add_typer(policy_shadow.app)
