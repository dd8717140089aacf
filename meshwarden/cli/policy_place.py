"""Where a command takes a policy from: the service's own, one of its revisions, a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import remote
from meshwarden.cli.excerpts import told_under_lines
from meshwarden.cli.options import load_settings

if TYPE_CHECKING:
    from authz.policy.rules import PolicyText
    from meshwarden.publication import Publication
    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import policy_pb2, policy_pb2_grpc

__all__ = [
    "FolderOption",
    "Place",
    "RevisionOption",
    "calling",
    "folder_policy",
    "get_live",
    "get_revision",
    "head",
    "live_policy",
    "named_policy",
    "read_as_folder",
    "read_published",
    "revision_policy",
    "wanted_policy",
]

FolderOption = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FOLDER", help="A policy folder, not the running service."),
]
RevisionOption = Annotated[
    int | None,
    typer.Option("--revision", min=1, metavar="NUMBER", help="A revision, not what is in force."),
]


@dataclass(frozen=True, slots=True)
class Place:
    """A policy and where it came from.

    Attributes:
        text: The policy.
        name: For people: "revision 3", a folder.
        folder: The folder that it was read from; "" for others.
        revision: The revision that it is; None for others.
        settings: Under which it was read.
    """

    text: "PolicyText"
    name: str
    settings: "Settings" = field(repr=False)
    folder: str = ""
    revision: "policy_pb2.Revision | None" = None

    @property
    def number(self) -> int:
        """The revision's number; 0 for others."""
        return self.revision.number if self.revision is not None else 0


@contextmanager
def calling(settings: "Settings") -> "Iterator[policy_pb2_grpc.PolicyStub]":
    """Call the Policy service of the running service.

    Raises:
        SupervisorError: No service runs there, or it says no.
    """
    # Messages take a while to import: other commands need not wait for them.
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415

    with policy_service(settings.runtime.runtime_dir) as service:
        yield service


def wanted_policy(config: Path | None, folder: Path | None, revision: int | None) -> Place:
    """The policy that --policy and --revision ask for; what is in force without them."""
    if folder is not None and revision is not None:
        raise typer.BadParameter("--policy and --revision name two policies; give one")
    if folder is not None:
        return folder_policy(config, folder)
    settings = load_settings(config).settings
    return live_policy(settings) if revision is None else revision_policy(settings, revision)


def named_policy(config: Path | None, name: str) -> Place:
    """The policy that an argument names: a revision's number, `live`, or a folder."""
    if name.isdecimal():
        return revision_policy(load_settings(config).settings, int(name))
    if name == "live" and not Path(name).exists():
        return live_policy(load_settings(config).settings)
    return folder_policy(config, Path(name))


def live_policy(settings: "Settings") -> Place:
    """What the service decides by.

    Raises:
        SupervisorError: No service runs there, or it has no policy yet.
    """
    from meshwarden.settings import STORE  # noqa: PLC0415

    elsewhere = remote.chosen() is not None
    if elsewhere and not _has_revisions(settings):
        return _of(get_live(settings), settings)
    if elsewhere or settings.policy.source == STORE:
        with calling(settings) as service:
            return head(service, settings)
    found = read_published(
        settings,
        f"no policy is in force: no service has run on {settings.runtime.state_dir}; name a folder "
        "by --policy, or the config file of a service by --config",
    )
    return _of(found, settings)


def head(service: "policy_pb2_grpc.PolicyStub", settings: "Settings") -> Place:
    """The newest revision; before the first one a policy without rules, which denies all."""
    import grpc  # noqa: PLC0415

    from authz.policy.mesh import empty_policy  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    try:
        reply = service.Get(policy_pb2.GetRequest())
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return Place(empty_policy(settings.policy.bind), "no revision yet", settings)
    return _got(reply, settings)


def revision_policy(settings: "Settings", number: int) -> Place:
    """One revision.

    Raises:
        SupervisorError: No service runs there, or it has no such revision.
    """
    return _got(get_revision(settings, number), settings)


def get_revision(settings: "Settings", number: int) -> "policy_pb2.GetReply":
    """Ask the service for one revision; 0 is the newest.

    Raises:
        SupervisorError: No service runs there, or it has no such revision.
    """
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(settings) as service:
        return service.Get(policy_pb2.GetRequest(number=number))


def get_live(settings: "Settings") -> "Publication":
    """Ask the service, as one on another machine, what it decides by.

    Raises:
        SupervisorError: It can't be reached, or it has no policy yet.
    """
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from meshwarden.policy_messages import text_from  # noqa: PLC0415
    from meshwarden.publication import Publication  # noqa: PLC0415
    from protos.meshwarden.v1 import live_pb2, live_pb2_grpc  # noqa: PLC0415

    with admin_service(settings.runtime.runtime_dir, live_pb2_grpc.LiveStub) as service:
        reply = service.Get(live_pb2.GetLiveRequest())
    return Publication(
        text=text_from(reply.text),
        bind=dict(reply.bind),
        digest=reply.digest,
        published_ns=reply.published_ns,
        source=reply.source,
        revision=reply.revision,
    )


def read_published(settings: "Settings", absent: str) -> "Publication":
    """Read what the processes of the service on this machine decide by.

    Args:
        settings: The service's.
        absent: What to say where nothing has been published.

    Raises:
        SupervisorError: Nothing has been, or it can't be read.
    """
    from meshwarden import publication  # noqa: PLC0415
    from meshwarden.errors import SupervisorError  # noqa: PLC0415

    try:
        return publication.load(settings.runtime.state_dir)
    except FileNotFoundError:
        raise SupervisorError(absent) from None
    except publication.BrokenPublicationError as error:
        raise SupervisorError(str(error)) from error


def folder_policy(config: Path | None, folder: Path) -> Place:
    """A folder, with every row in order; it is not checked further.

    Raises:
        Exit: It can't be read as a policy; every fault is shown.
    """
    from meshwarden import plugins  # noqa: PLC0415

    settings = read_as_folder(load_settings(config).settings, folder)
    with told_under_lines(folder):
        text = plugins.policy_source(settings).load()
    return Place(text, str(folder), settings, str(folder))


def read_as_folder(settings: "Settings", folder: Path) -> "Settings":
    """The settings under which a folder is the policy's source."""
    policy = replace(settings.policy, source="folder", path=folder.absolute())
    return replace(settings, policy=policy)


def _got(reply: "policy_pb2.GetReply", settings: "Settings") -> Place:
    from meshwarden.policy_messages import text_from  # noqa: PLC0415

    revision = reply.revision
    return Place(text_from(reply.text), f"revision {revision.number}", settings, revision=revision)


def _has_revisions(settings: "Settings") -> bool:
    """Whether policy comes from the store on another machine: its settings are not ours."""
    import grpc  # noqa: PLC0415

    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(settings) as service:
        try:
            service.History(policy_pb2.HistoryRequest(limit=1))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return False
    return True


def _of(found: "Publication", settings: "Settings") -> Place:
    """What was published: without a revision, even where it was one."""
    return Place(found.text, f"policy {found.digest[:12]} from {found.source}", settings)
