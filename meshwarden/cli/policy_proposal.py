"""A change on its way to the store: made upon the newest revision, shown, asked about, sent.

Whatever changes policy goes this way: a folder, a table, one rule, a role. What is shown is what is
sent: the revision that it was compared with is its parent, and whoever was faster is told of.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from meshwarden.cli.excerpts import complain_of
from meshwarden.cli.output import FAULT, Form, complain, show, show_data
from meshwarden.cli.policy_effects import build, compared, plain, print_difference
from meshwarden.cli.policy_place import Place, calling, head
from meshwarden.cli.prompts import confirm

if TYPE_CHECKING:
    from authz.authoring.effects import Difference
    from authz.policy.rules import PolicyText
    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import policy_pb2, policy_pb2_grpc

__all__ = [
    "DIGEST_SHOWN",
    "How",
    "Proposal",
    "ask",
    "compare_texts",
    "propose",
    "revision_fields",
    "tell",
]

DIGEST_SHOWN = 12
# Of the changes of one kind, before something is done; `policy diff` shows all.
_MOST_SHOWN = 20
# Each try loses only to somebody whose revision was made.
_TRIES = 20

Send = Callable[["policy_pb2_grpc.PolicyStub", "PolicyText", int | None], "policy_pb2.ApplyReply"]


@dataclass(frozen=True, slots=True)
class How:
    """How a change is to be made, as the command's options say.

    Attributes:
        message: Why.
        dry_run: Show it, and change nothing.
        yes: Don't ask.
        output: For people, or for programs.
        parent: The revision that the author has seen; None for the newest.
        shows: Whether its effect is shown where nobody is at a terminal either.
        retries: Whether it is made again upon the revision of somebody who was faster.
        folder: Where the lines are that faults name; None where they are in no folder.
    """

    message: str
    dry_run: bool
    yes: bool
    output: Form
    parent: int | None = None
    shows: bool = False
    retries: bool = False
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be done to the policy that is in force.

    Attributes:
        change: Gives the policy after it; None when that one says so already. May raise
            AuthzError when the change makes no sense upon that policy.
        origin: From where it comes, for the history.
        send: Sends it, where that isn't Apply.
        told: More for programs, once it was made: asked after `change`.
        said: What it does, for the history of those who don't say why: asked after `change`.
        is_whole: Whether it is the same whatever was in force before.
    """

    change: "Callable[[PolicyText], PolicyText | None]"
    origin: str
    send: Send | None = None
    told: Callable[[], Mapping[str, Any]] = dict
    said: Callable[[], str] = str
    is_whole: bool = False


def propose(settings: "Settings", proposal: Proposal, how: How) -> None:
    """Make a change the next revision.

    Raises:
        Exit: It has a fault, or was not wanted.
        SupervisorError: Somebody else was faster, or no service runs.
    """
    import grpc  # noqa: PLC0415 - every command would wait for it

    from meshwarden.errors import SupervisorError  # noqa: PLC0415

    shows = how.dry_run or how.shows or _at_terminal()
    if proposal.is_whole and not shows:
        _send_unseen(settings, proposal, how)
        return
    last: object = None
    for left in reversed(range(_TRIES)):
        with calling(settings) as service:
            before = head(service, settings)
            text = proposal.change(before.text)
            if text is None:
                _tell_same(proposal, how)
                return
            _refuse_stale(before, how)
            checked = _apply(service, text, proposal, how, dry_run=True)
            if checked.errors or checked.unchanged:
                tell(checked, how, proposal.told())
                return
            difference = compare_texts(before, text, settings) if shows else None
            # Somebody else's revision may have changed what this one does: then it is shown again.
            seen = _seen(difference)
            if seen != last:
                ask(difference, how)
            last = seen
            if how.dry_run:
                tell(checked, how, proposal.told(), difference)
                return
            try:
                send = proposal.send or _sender(proposal, how)
                reply = send(service, text, before.number)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED or not how.retries or not left:
                    raise
                complain(f"{(error.details() or '').rpartition(';')[0]}; trying again upon it")
                continue
        tell(reply, how, proposal.told(), difference)
        return
    raise SupervisorError("somebody else was faster each time")


def compare_texts(before: Place, text: "PolicyText", settings: "Settings") -> "Difference | None":
    """What a change does; None, with a word on why, where it can't be told here."""
    from authz.errors import AuthzError  # noqa: PLC0415
    from meshwarden.errors import FunctionModuleError  # noqa: PLC0415

    try:
        return compared(
            lambda: (
                (before.text, build(before.text, settings)),
                (text, build(text, settings)),
            ),
            settings,
        )
    except (AuthzError, FunctionModuleError) as error:
        complain(f"what it changes can't be worked out here: {error}")
        return None


def ask(difference: "Difference | None", how: How) -> None:
    """Show what a change does, and ask where somebody is there and it lets something in.

    Raises:
        Exit: The answer is no.
    """
    if difference is not None and not how.output.is_data:
        print_difference(difference, most=_MOST_SHOWN)
    if how.dry_run or how.yes or not _at_terminal():
        return
    if difference is None:
        confirm("Make it all the same?", yes=False)
    elif difference.widened:
        count = len(difference.widened)
        confirm(f"It allows what was denied, by {count} change{'s' * (count != 1)}. Make it?",
                yes=False)  # fmt: skip
    elif difference.unsearched:
        confirm("Not every change could be looked into in time. Make it?", yes=False)


def tell(
    reply: "policy_pb2.ApplyReply",
    how: How,
    more: Mapping[str, Any],
    difference: "Difference | None" = None,
) -> None:
    """Say what came of it.

    Raises:
        Exit: It had faults.
    """
    if how.output.is_data:
        show_data(
            {
                "ok": not reply.errors,
                "errors": list(reply.errors),
                "unchanged": reply.unchanged,
                "dry_run": how.dry_run,
                "digest": reply.digest,
                "rules": reply.rule_count,
                "revision": revision_fields(reply.revision) if reply.HasField("revision") else None,
                "difference": None if difference is None else plain(difference),
                **more,
            },
            how.output,
        )
    complain_of(reply.errors, how.folder)
    if reply.errors:
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    if how.output.is_data:
        return
    what = f"{reply.rule_count} rules, policy {reply.digest[:DIGEST_SHOWN]}"
    if reply.unchanged:
        show(f"unchanged: the newest revision is this policy already ({what})")
    elif how.dry_run:
        show(f"no fault ({what}); nothing was changed")
    else:
        show(f"revision {reply.revision.number} is in force ({what})")


def revision_fields(revision: "policy_pb2.Revision") -> dict[str, object]:
    """A revision as programs get it."""
    fields = ("number", "parent", "author", "created_ns", "message", "digest", "origin", "rows")
    told: dict[str, object] = {name: getattr(revision, name) for name in fields}
    for name in ("added", "removed"):
        told[name] = getattr(revision, name) if revision.HasField(name) else None
    return told


def _send_unseen(settings: "Settings", proposal: Proposal, how: How) -> None:
    """Send a whole policy that nobody looks at before, as from a script."""
    from authz.policy.rules import PolicyText  # noqa: PLC0415

    text = proposal.change(PolicyText("", ()))
    if text is None:
        raise ValueError("a whole policy is one")
    with calling(settings) as service:
        send = proposal.send or _sender(proposal, how)
        tell(send(service, text, how.parent), how, proposal.told())


def _refuse_stale(before: Place, how: How) -> None:
    """Refuse a change upon a revision that is no longer the newest, as the store would.

    Raises:
        SupervisorError: It isn't, or never was.
    """
    if how.parent is None or how.parent == before.number:
        return
    from meshwarden.errors import SupervisorError  # noqa: PLC0415

    if before.revision is None or how.parent > before.number:
        raise SupervisorError(f"there is no revision {how.parent}: the newest is {before.number}")
    raise SupervisorError(
        f"revision {before.number} was made meanwhile by {before.revision.author}: "
        f"{before.revision.message!r}; look at it and apply again"
    )


def _tell_same(proposal: Proposal, how: How) -> None:
    more = proposal.told()
    if how.output.is_data:
        show_data({"ok": True, "unchanged": True, "revision": None, **more}, how.output)
    else:
        show(f"unchanged: {more.get('same') or 'the policy'} says so already")


def _sender(proposal: Proposal, how: How) -> Send:
    def send(
        service: "policy_pb2_grpc.PolicyStub", text: "PolicyText", parent: int | None
    ) -> "policy_pb2.ApplyReply":
        return _apply(service, text, proposal, how, parent=parent)

    return send


def _apply(  # noqa: PLR0913 - the parts of a request
    service: "policy_pb2_grpc.PolicyStub",
    text: "PolicyText",
    proposal: Proposal,
    how: How,
    *,
    parent: int | None = None,
    dry_run: bool = False,
) -> "policy_pb2.ApplyReply":
    from meshwarden.policy_messages import text_message  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    return service.Apply(
        policy_pb2.ApplyRequest(
            text=text_message(text),
            message=how.message or proposal.said(),
            origin=proposal.origin,
            parent=parent,
            dry_run=dry_run,
        )
    )


def _seen(difference: "Difference | None") -> Sequence[object]:
    """What somebody who has agreed to a change has agreed to."""
    if difference is None:
        return ()
    from authz.authoring.diff import words  # noqa: PLC0415

    return [
        *[(each.kind, words(each.row)) for each in difference.changes],
        *[words(each.change.row) for each in difference.widened],
    ]


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
