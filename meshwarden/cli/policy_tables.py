"""`meshwarden policy export` and `import`: out into a folder, in and out of Casbin's table."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import Form, show, show_data
from meshwarden.cli.policy_apply import DryRun, Message, Parent
from meshwarden.cli.policy_place import FolderOption, Place, wanted_policy
from meshwarden.cli.policy_proposal import How, Proposal, propose
from meshwarden.cli.prompts import Yes

if TYPE_CHECKING:
    from authz.policy.rules import PolicyText, Row

__all__ = ["export", "import_table"]

_TABLE = "casbin_rule"
_MODEL_FILE = "model.conf"
Table = Annotated[str, typer.Option("--table", metavar="NAME", help="The table's name.")]


def export(  # noqa: PLR0913, PLR0917 - each is an option
    target: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|URL",
            help="A folder that isn't there yet, or a database: sqlite:///FILE, postgresql://...",
        ),
    ],
    number: Annotated[int, typer.Option("--revision", min=0, help="0 is the newest.")] = 0,
    folder: FolderOption = None,
    table: Table = _TABLE,
    replace_rows: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--replace", help="Put them in the place of rows that a table holds.")
    ] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Write a policy as a folder, each row in the file that it came from; or as Casbin's table.

    The table is as casbin_sqlalchemy_adapter has it: pycasbin reads it with the same model. Each
    row has up to six values.
    """
    where = wanted_policy(config, folder, number or None)
    if "://" in target:
        rows = _whole(where)
        from adapters.sql.casbin_rule import write_table  # noqa: PLC0415

        write_table(target, rows, table, replace=replace_rows)
        if output.is_data:
            show_data({"table": table, "rows": len(rows)}, output)
        else:
            show(f"{len(rows)} rows in the table {table}")
        return
    from meshwarden.authoring.folder_export import write_folder  # noqa: PLC0415

    files = write_folder(Path(target), where.text)
    if output.is_data:
        show_data({"folder": target, "rows": len(where.text.rows), "files": sorted(files)}, output)
    else:
        show(f"{len(where.text.rows)} rows in {len(files)} files under {target}")


def import_table(  # noqa: PLR0913, PLR0917 - each is an option
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="As SQLAlchemy has it: sqlite:///FILE, postgresql://USER@HOST/NAME"
        ),
    ],
    table: Table = _TABLE,
    model: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="The rows' model, or 'mesh'; else the one that is in force."
        ),
    ] = "",
    message: Message = "",
    parent: Parent = None,
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make the rows of Casbin's table the next revision, as `policy apply` does with a folder.

    The table is as casbin_sqlalchemy_adapter has it: id, ptype, v0 to v5. A row that is in force
    already keeps the place that it was written at; a new one's place is its id in the table.

    Exits with 2, and changes nothing, when a row can't be meant as it stands.
    """
    if "://" not in url:
        raise typer.BadParameter(
            f"{url} is no database: write sqlite:///FILE or postgresql://...; "
            "a folder becomes a revision by 'policy apply'"
        )
    from adapters.sql.casbin_rule import read_table  # noqa: PLC0415
    from authz.authoring.edits import EditError  # noqa: PLC0415
    from authz.policy.mesh import NO_MODEL  # noqa: PLC0415

    rows = read_table(url, table)
    fixed = _model(model)

    def change(live: "PolicyText") -> "PolicyText":
        if fixed is None and live.model_file == NO_MODEL:
            raise EditError(
                "no policy is there whose model the rows could have: name it by --model"
            )
        text, file = fixed or (live.model, live.model_file)
        return replace(live, model=text, model_file=file, rows=tuple(_placed(rows, live.rows)))

    settings = load_settings(config).settings
    proposal = Proposal(change, f"the table {table}", told=lambda: {"table": table})
    propose(settings, proposal, How(message, dry_run, yes, output, parent))


def _model(name: str) -> tuple[str, str] | None:
    """Text and file name of a model; None for the one that is in force."""
    from authz.policy.mesh import MESH, mesh_model  # noqa: PLC0415

    if not name:
        return None
    if name == MESH:
        return mesh_model(), MESH
    try:
        return Path(name).read_text(encoding="utf-8"), _MODEL_FILE
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"--model {name}: is not UTF-8") from error


def _placed(rows: "Iterable[Row]", live: "Iterable[Row]") -> "Iterable[Row]":
    """The rows, each as it is in force where it is: a decision goes on naming its line."""
    from authz.authoring.diff import words  # noqa: PLC0415

    known: dict[Any, list[Row]] = {}
    for row in live:
        known.setdefault(words(row), []).append(row)
    for row in rows:
        same = known.get(words(row))
        # Of several that say the same, each is taken once.
        yield same.pop(0) if same else row


def _whole(where: Place) -> "list[Row]":
    """Every row with what it left off: pycasbin wants a value for each field.

    Raises:
        PolicyError: The policy has faults.
    """
    from authz.authoring.lint.spec import Options, Subject  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from meshwarden.follower import engine_options  # noqa: PLC0415

    subject = Subject(where.text, Options(engine_options(where.settings)))
    if subject.faults:
        raise PolicyError(subject.faults)
    return subject.rows
