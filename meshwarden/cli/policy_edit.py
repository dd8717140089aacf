"""`meshwarden policy allow`, `deny` and `revoke`: one rule, by its fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import Form
from meshwarden.cli.policy_apply import DryRun, Message
from meshwarden.cli.policy_change import EditedFolder, FileOption, change_policy
from meshwarden.cli.policy_proposal import How
from meshwarden.cli.policy_rows import Fields, parse_fields
from meshwarden.cli.prompts import Yes

if TYPE_CHECKING:
    from authz.authoring.edits import Edit
    from authz.policy.rules import PolicyText

__all__ = ["allow", "deny", "revoke"]

_SENTENCE = "WHO to METHOD PATH on SERVICE [when CONDITION]"
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WHO to METHOD PATH on SERVICE [when CONDITION]]",
        show_default=False,
        help="The rule as a sentence, in place of flags.",
    ),
]
Who = Annotated[
    str | None,
    typer.Option(metavar="WHO", help="td/ns/N/sa/S, role:NAME, user:ISSUER/SUBJECT, or *."),
]
Service = Annotated[str | None, typer.Option(metavar="NAME", help="Service that is called.")]
Method = Annotated[str | None, typer.Option(metavar="NAME", help="GET, GET|HEAD, or *.")]
Path = Annotated[
    str | None, typer.Option(metavar="PATH", help="/orders/* with * for a segment, ** for many.")
]
When = Annotated[
    str | None, typer.Option(metavar="CONDITION", help="As request.headers['x-env'] == 'prod'.")
]
Type = Annotated[str, typer.Option("--ptype", metavar="TYPE", help="p, or p2 of a model with it.")]


def allow(  # noqa: PLR0913, PLR0917 - each is an option
    words: Words = None,
    who: Who = None,
    service: Service = None,
    method: Method = None,
    path: Path = None,
    when: When = None,
    fields: Fields = None,
    ptype: Type = "p",
    message: Message = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    folder: EditedFolder = None,
    file: FileOption = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Add one rule that allows: `policy allow role:web to GET '/orders/*' on orders`.

    Or in flags: --who role:web --method GET --path '/orders/*' --service orders. A model of one's
    own has its fields named: --field sub=alice --field obj=data --field act=read.

    What it lets in is shown first, and on a terminal asked about. Made upon the newest revision,
    and again if somebody was faster. Exits with 2 when the policy would have a fault.
    """
    given = _given(words, fields, who=who, service=service, method=method, path=path, when=when)
    how = How(message, dry_run, yes, output)
    change_policy(_adding("allow", ptype, given), how, config=config, folder=folder, file=file)


def deny(  # noqa: PLR0913, PLR0917 - each is an option
    words: Words = None,
    who: Who = None,
    service: Service = None,
    method: Method = None,
    path: Path = None,
    when: When = None,
    fields: Fields = None,
    ptype: Type = "p",
    message: Message = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    folder: EditedFolder = None,
    file: FileOption = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Add one rule that denies: `policy deny '*' to DELETE '/orders/**' on orders`.

    As `policy allow` does; in the mesh model a deny beats every allow.
    """
    given = _given(words, fields, who=who, service=service, method=method, path=path, when=when)
    how = How(message, dry_run, yes, output)
    change_policy(_adding("deny", ptype, given), how, config=config, folder=folder, file=file)


def revoke(  # noqa: PLR0913, PLR0917 - each is an option
    words: Words = None,
    who: Who = None,
    service: Service = None,
    method: Method = None,
    path: Path = None,
    when: When = None,
    effect: Annotated[str | None, typer.Option(metavar="EFFECT", help="allow or deny.")] = None,
    fields: Fields = None,
    at: Annotated[
        str, typer.Option("--at", metavar="FILE:LINE", help="Where the rule was written.")
    ] = "",
    ptype: Type = "p",
    message: Message = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    folder: EditedFolder = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take out one rule, whatever its effect: the one that has each field that is named.

    As written, not by what it matches; fields that aren't named may hold anything. Exits with 2,
    and changes nothing, where no rule is meant (the nearest are shown) or several are.
    """
    given = _given(
        words, fields, who=who, service=service, method=method, path=path, when=when, eft=effect
    )
    if not given and not at:
        raise typer.BadParameter(f"say which rule: {_SENTENCE}, or flags, or --at FILE:LINE")

    def change(text: "PolicyText") -> "Edit":
        from authz.authoring.edits import Pick, remove  # noqa: PLC0415

        _check_own(text, given)
        return remove(text, Pick(ptype, given, at))

    change_policy(change, How(message, dry_run, yes, output), config=config, folder=folder)


def _adding(effect: str, ptype: str, given: Mapping[str, str]) -> "Callable[[PolicyText], Edit]":
    def change(text: "PolicyText") -> "Edit":
        from authz.authoring.edits import add, build_rule  # noqa: PLC0415

        _check_own(text, given)
        return add(text, build_rule(text, ptype, effect, given))

    return change


def _check_own(text: "PolicyText", given: Mapping[str, str]) -> None:
    """Tell how to name the fields of a model of one's own, where the flags are of no use.

    Raises:
        EditError: They aren't.
    """
    from authz.authoring.edits import EditError  # noqa: PLC0415
    from authz.policy.model import parse_model  # noqa: PLC0415

    model = parse_model(text.model, text.model_file)
    fields = {name for key in model.keys("p") for name in model.definitions[key].fields}
    if given and fields.isdisjoint(given):
        example = " ".join(f"--field {name}=..." for name in model.definitions["p"].fields)
        raise EditError(
            f"the policy has a model of its own, without {', '.join(given)}: name its fields, "
            f"{example}"
        )


def _given(
    words: Sequence[str] | None, fields: Sequence[str] | None, **flags: str | None
) -> dict[str, str]:
    """The fields that a command's words, flags and --field options name.

    Raises:
        BadParameter: They contradict each other, or the words are no sentence.
    """
    found = _sentence(words) if words else {}
    for source in (
        {name: value for name, value in flags.items() if value is not None},
        parse_fields(fields),
    ):
        for name, value in source.items():
            if found.setdefault(name, value) != value:
                raise typer.BadParameter(f"{name} is given twice: {found[name]!r} and {value!r}")
    if "method" in found:
        found["method"] = found["method"].upper()
    return found


def _sentence(words: Sequence[str]) -> dict[str, str]:
    """Read a rule as people say it.

    Raises:
        BadParameter: It isn't said so.
    """
    match list(words):
        case [who, "to", method, path, "on", service]:
            return {"who": who, "method": method, "path": path, "service": service}
        case [who, "to", method, path, "on", service, "when", *condition] if condition:
            when = " ".join(condition)
            return {"who": who, "method": method, "path": path, "service": service, "when": when}
    raise typer.BadParameter(f"{' '.join(words)!r} is no rule; write {_SENTENCE}")
