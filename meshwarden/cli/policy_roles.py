"""`meshwarden policy role`: who has which role."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import PLACE, Form, show, show_data, styled, table
from meshwarden.cli.policy_apply import DryRun, Message
from meshwarden.cli.policy_change import EditedFolder, FileOption, change_policy
from meshwarden.cli.policy_effects import place
from meshwarden.cli.policy_place import FolderOption, RevisionOption, wanted_policy
from meshwarden.cli.policy_proposal import How
from meshwarden.cli.policy_rows import title
from meshwarden.cli.prompts import Yes
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.tree import Tree

    from authz.authoring.edits import Edit
    from authz.authoring.role_tree import RoleNode
    from authz.policy.model import Role
    from authz.policy.rules import PolicyText, Row

__all__ = ["app"]

app = typer.Typer(name="role", help="Give and take roles, and see who has them.",
                  no_args_is_help=True)  # fmt: skip

Member = Annotated[
    str,
    typer.Argument(
        metavar="MEMBER", help="td/ns/N/sa/S, with * in it, user:ISSUER/SUBJECT, or a role."
    ),
]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="role:NAME in the mesh model.")]
More = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DOMAIN]", show_default=False, help="Of a model that has domains."),
]
Type = Annotated[str, typer.Option("--ptype", metavar="TYPE", help="g, or g2 of a model with it.")]


@app.command(cls=RemoteCommand)
def add(  # noqa: PLR0913, PLR0917 - each is an option
    member: Member,
    role: RoleName,
    more: More = None,
    ptype: Type = "g",
    message: Message = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    folder: EditedFolder = None,
    file: FileOption = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Give a role to a workload, a user or another role.

    What that lets in is shown first, and on a terminal asked about.
    """

    def change(text: "PolicyText") -> "Edit":
        from authz.authoring import edits  # noqa: PLC0415

        return edits.add(text, edits.build_link(text, ptype, (member, role, *(more or ()))))

    how = How(message, dry_run, yes, output)
    change_policy(change, how, config=config, folder=folder, file=file)


@app.command(cls=RemoteCommand)
def remove(  # noqa: PLR0913, PLR0917 - each is an option
    member: Member,
    role: RoleName,
    more: More = None,
    ptype: Type = "g",
    message: Message = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    folder: EditedFolder = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take a role away again.

    Exits with 2 when MEMBER isn't given it directly, or rules speak of a role that nobody would
    have any more: revoke those first.
    """

    def change(text: "PolicyText") -> "Edit":
        from authz.authoring import edits  # noqa: PLC0415
        from authz.policy.model import parse_model  # noqa: PLC0415

        known = parse_model(text.model, text.model_file).roles.get(ptype)
        names = edits.named(known) if known else ("member", "role")
        values = (member, role, *(more or ()))
        if len(values) > len(names):
            known_names = " and ".join(names)
            raise edits.EditError(f"a {ptype} has {known_names}, and not {values[-1]!r} too")
        given = dict(zip(names, values, strict=False))
        return edits.remove(text, edits.Pick(ptype, given))

    change_policy(change, How(message, dry_run, yes, output), config=config, folder=folder)


@app.command("list", cls=RemoteCommand)
def list_roles(  # noqa: PLR0913, PLR0917 - each is an option
    role: Annotated[str, typer.Option(metavar="ROLE", help="Who has this role.")] = "",
    member: Annotated[str, typer.Option(metavar="MEMBER", help="Which roles it is given.")] = "",
    folder: FolderOption = None,
    revision: RevisionOption = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List who is given which role, as it is written; `tree` shows what follows from that."""
    from authz.authoring.edits import named  # noqa: PLC0415
    from authz.policy.model import parse_model  # noqa: PLC0415

    where = wanted_policy(config, folder, revision)
    model = parse_model(where.text.model, where.text.model_file)
    links = [
        row
        for row in _links(where.text.rows, model.roles)
        if (not role or row.values[1] in {role, f"role:{role}"})
        and (not member or row.values[0] == member.removeprefix("spiffe://"))
    ]
    if output.is_data:
        data = []
        for row in links:
            values = dict(zip(named(model.roles[row.ptype]), row.values, strict=True))
            data.append({"ptype": row.ptype, **values, "file": row.file, "line": row.line})
        show_data(data, output)
        return
    show(styled((title(where), "bold")))
    if not links:
        show("nobody is given a role" if not (role or member) else "no row matches")
        return
    rules = _rule_counts(where.text.rows)
    rows = [
        (
            row.values[0],
            " ".join(row.values[1:]),
            str(rules[row.values[1]]),
            place(row),
        )
        for row in links
    ]
    show(table(("member", "role", "its rules", PLACE), rows))


@app.command(cls=RemoteCommand)
def tree(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            show_default=False,
            help="A role, with who has it; or a member, with its roles.",
        ),
    ] = "",
    folder: FolderOption = None,
    revision: RevisionOption = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Draw each role with its members below it, and theirs; circles are shown as such."""
    where = wanted_policy(config, folder, revision)
    groups = _groups(where.text)
    rules = _rule_counts(where.text.rows)
    drawn: dict[str, Sequence[RoleNode]] = {}
    for title_of, links in groups.items():
        nodes = _nodes(links, name)
        if nodes:
            drawn[title_of] = nodes
    if name and not drawn:
        _refuse_unknown(name, groups.values())
    if output.is_data:
        data = [
            {"of": of, "roles": [_plain(each) for each in nodes]} for of, nodes in drawn.items()
        ]
        show_data(data, output)
        return
    show(styled((title(where), "bold")))
    if not drawn:
        show("nobody is given a role")
    for of, nodes in drawn.items():
        if len(groups) > 1:
            show(styled((of, "bold")))
        show(*[_branch(node, rules) for node in nodes])


def _links(rows: "Iterable[Row]", roles: "dict[str, Role]") -> "list[Row]":
    """Rows that give roles, but for those that the model has no place for."""
    return [row for row in rows if row.ptype in roles and len(row.values) == roles[row.ptype].arity]


def _groups(text: "PolicyText") -> "dict[str, list[Row]]":
    """Links by what keeps them apart: their type, and their domain."""
    from authz.policy.model import parse_model  # noqa: PLC0415

    roles = parse_model(text.model, text.model_file).roles
    found: dict[str, list[Row]] = {}
    for row in _links(text.rows, roles):
        domain = f" in {row.values[2]}" if roles[row.ptype].domains else ""
        found.setdefault(f"{row.ptype}{domain}", []).append(row)
    return found


def _nodes(links: "Sequence[Row]", name: str) -> "Sequence[RoleNode]":
    from authz.authoring.role_tree import role_trees, roles_above  # noqa: PLC0415

    if not name:
        return role_trees(links)
    wanted = {name, f"role:{name}", name.removeprefix("spiffe://")}
    for row in links:
        if row.values[1] in wanted:
            return role_trees(links, row.values[1])
    for row in links:
        if row.values[0] in wanted:
            return [roles_above(links, row.values[0])]
    return ()


def _refuse_unknown(name: str, groups: "Iterable[Sequence[Row]]") -> None:
    import difflib  # noqa: PLC0415

    from authz.authoring.edits import EditError  # noqa: PLC0415

    known = {value for links in groups for row in links for value in row.values[:2]}
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    raise EditError(f"no role and no member is called {name!r}{hint}")


def _rule_counts(rows: "Iterable[Row]") -> "Counter[str]":
    return Counter(row.values[0] for row in rows if row.ptype[0] == "p" and row.values)


def _branch(node: "RoleNode", rules: "Counter[str]") -> "RenderableType":
    from rich.tree import Tree  # noqa: PLC0415

    made = Tree(_label(node, rules))
    _grow(made, node, rules)
    return made


def _grow(made: "Tree", node: "RoleNode", rules: "Counter[str]") -> None:
    for each in node.branches:
        _grow(made.add(_label(each, rules)), each, rules)


def _label(node: "RoleNode", rules: "Counter[str]") -> Any:
    count = rules[node.name]
    told = f"  {count} rule{'s' * (count != 1)}" if count else ""
    for is_so, mark in (
        (node.is_cycle, "  a circle: it stands above"),
        (node.is_told, "  (as shown above)"),
        (node.is_cut, "  ... and deeper"),
    ):
        if is_so:
            return styled(node.name, (told, "dim"), (mark, "red" if node.is_cycle else "dim"))
    return styled(node.name, (told, "dim"))


def _plain(node: "RoleNode") -> dict[str, Any]:
    told: dict[str, Any] = {"name": node.name}
    for name in ("is_cycle", "is_told", "is_cut"):
        if getattr(node, name):
            told[name.removeprefix("is_")] = True
    if node.branches:
        told["branches"] = [_plain(each) for each in node.branches]
    return told
