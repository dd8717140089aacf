"""`meshwarden policy apply` and `rollback`: a whole policy becomes the next revision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import Form
from meshwarden.cli.policy_place import folder_policy, revision_policy
from meshwarden.cli.policy_proposal import How, Proposal, propose
from meshwarden.cli.prompts import Yes

if TYPE_CHECKING:
    from authz.policy.rules import PolicyText
    from protos.meshwarden.v1 import policy_pb2, policy_pb2_grpc

__all__ = ["DryRun", "Message", "Parent", "apply", "rollback"]

Message = Annotated[
    str, typer.Option("--message", "-m", metavar="TEXT", help="Why; the history keeps it.")
]
Parent = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="NUMBER", help="Refuse unless this is still the newest revision; 0 is none."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check it there, show what it does, and change nothing.")
]


def apply(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The policy's folder.")],
    message: Message = "",
    parent: Parent = None,
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a folder's policy the next revision of the running service, and put it in force.

    On a terminal it shows first what it lets in and what it keeps out, and asks where something
    is let in that was denied.

    Exits with 2, and changes nothing, when it has a fault or somebody was faster; with 1 when the
    answer is no.
    """
    place = folder_policy(config, folder)
    proposal = Proposal(lambda _: place.text, str(folder.absolute()), is_whole=True)
    settings = load_settings(config).settings
    propose(settings, proposal, How(message, dry_run, yes, output, parent, folder=folder))


def rollback(  # noqa: PLR0913, PLR0917 - each is an option
    number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="Whose policy to take.")],
    message: Message = "",
    parent: Parent = None,
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make the policy of an older revision the next one; nothing of the history is lost.

    On a terminal it shows and asks as `policy apply` does.
    """
    settings = load_settings(config).settings
    text = revision_policy(settings, number).text

    def send(
        service: "policy_pb2_grpc.PolicyStub", _text: "PolicyText", parent: int | None
    ) -> "policy_pb2.ApplyReply":
        from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

        request = policy_pb2.RollbackRequest(number=number, message=message, parent=parent)
        return service.Rollback(request)

    proposal = Proposal(lambda _: text, f"revision {number}", send, is_whole=True)
    propose(settings, proposal, How(message, dry_run, yes, output, parent))
