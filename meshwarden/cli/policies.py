"""Which policy a question is put to: the live one, a folder's, a revision's or the shadow's.

The live policy is what the running service has published: the same text, built by the same code
under the same settings as its fronts have. Without a service it is what the next one would serve.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import policy_place, remote
from meshwarden.cli.excerpts import told_under_lines
from meshwarden.cli.options import load_folder_settings, load_settings
from meshwarden.errors import SupervisorError

if TYPE_CHECKING:
    from authz.check import ActivePolicy
    from authz.policy.rules import PolicyText
    from meshwarden.publication import Publication
    from meshwarden.settings import Settings

__all__ = [
    "Chosen",
    "Folder",
    "Revision",
    "candidate_policy",
    "choose",
    "live_policy",
    "read_folder",
]

_DIGEST_SHOWN = 12
_SHADOW = "shadow"
_NO_SHADOW = "no candidate is beside the policy: 'meshwarden policy shadow set' puts one there"

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FOLDER]", show_default=False, help="A policy's folder; else the live policy."
    ),
]
Revision = Annotated[
    int | None,
    typer.Option(
        "--revision",
        min=0,
        metavar="NUMBER",
        help="A revision; 0 is the newest.",
    ),
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A policy that can be asked.

    Attributes:
        policy: What decides.
        text: As it was written.
        settings: How requests are read and policy is built.
        where: Where it is from, for people.
        revision: Its number in the store; 0 where it is from elsewhere.
        is_live: Whether a running service decides by it.
    """

    policy: "ActivePolicy"
    text: "PolicyText"
    settings: "Settings"
    where: str
    revision: int = 0
    is_live: bool = False

    @property
    def digest(self) -> str:
        """Digest of the policy."""
        return self.policy.snapshot.digest

    @property
    def name(self) -> str:
        """The policy in a few words, for people."""
        live = "live, " if self.is_live else ""
        return f"{self.digest[:_DIGEST_SHOWN]} ({live}{self.where})"


def choose(config: Path | None, folder: Path | None, option: str, revision: int | None) -> Chosen:
    """Load the policy that a command's options name; without any, the live one.

    Args:
        config: The --config option.
        folder: A policy's folder, if one is given.
        option: How that is called.
        revision: A revision's number, if one is given.

    Raises:
        BadParameter: Both are given.
        Exit: The policy has faults; every one is shown.
        SupervisorError: It can't be had without a service, and none runs.
        OSError: The folder can't be read.
    """
    if folder is not None and revision is not None:
        raise typer.BadParameter(f"{option} and --revision are two different policies")
    if folder is not None:
        return _of_folder(load_folder_settings(config, option, folder))
    settings = load_settings(config).settings
    if revision is not None:
        return _of_revision(settings, revision)
    return live_policy(settings)


def candidate_policy(config: Path | None, name: str) -> Chosen:
    """Load the policy that --candidate names: a folder, a revision's number, or the shadow.

    Raises:
        Exit: It has faults; every one is shown.
        SupervisorError: It can't be had without a service, and none runs.
        OSError: The folder can't be read.
    """
    if name == _SHADOW and not Path(name).is_dir():
        return _of_shadow(load_settings(config).settings)
    if name.isascii() and name.isdecimal() and not Path(name).is_dir():
        return _of_revision(load_settings(config).settings, int(name))
    return _of_folder(load_folder_settings(config, "--candidate", Path(name)))


def live_policy(settings: "Settings") -> Chosen:
    """Load what the service of these settings, or the one behind --server, decides by.

    Raises:
        Exit: No service runs, and the policy that it would load has faults.
        SupervisorError: No service runs, and none has left a policy.
        OSError: No service runs, and the policy's folder can't be read.
    """
    from meshwarden.config import restore  # noqa: PLC0415
    from meshwarden.files import RuntimeDir  # noqa: PLC0415
    from meshwarden.settings import STORE  # noqa: PLC0415

    if remote.chosen():
        found = policy_place.get_live(settings)
        return _published(found, settings, found.source, is_live=True)
    runtime = RuntimeDir(settings.runtime.runtime_dir)
    is_live = _runs(runtime.supervisor_socket)
    if is_live:
        # As it was started; the file may say something else by now.
        settings = restore(runtime.settings.read_bytes())
    elif settings.policy.source != STORE:
        asked = _of_folder(settings)
        return replace(asked, where=f"{asked.where}; no service runs")
    found = policy_place.read_published(
        settings,
        "the service has no policy yet"
        if is_live
        else f"no service runs on {runtime.path}, and none has left a policy: start one by "
        "'meshwarden serve', or name a folder or the service's config file",
    )
    where = found.source if is_live else f"{found.source}; no service runs"
    return _published(found, settings, where, is_live=is_live)


def read_folder(settings: "Settings") -> "PolicyText":
    """Read the policy of the settings' folder; it is not checked further.

    Raises:
        Exit: It can't be read as a policy; every fault is shown.
        OSError: The folder can't be read.
    """
    from meshwarden import plugins  # noqa: PLC0415

    with told_under_lines(settings.policy.own_folder):
        text: PolicyText = plugins.policy_source(settings).load()
    return text


def _runs(supervisor_socket: Path) -> bool:
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(supervisor_socket))
        except OSError:
            return False
    return True


def _of_folder(settings: "Settings") -> Chosen:
    folder = settings.policy.own_folder
    where = str(folder or f"the {settings.policy.source}")
    return _built(read_folder(settings), settings, where, folder=folder)


def _of_revision(settings: "Settings", number: int) -> Chosen:
    from meshwarden.policy_messages import text_from  # noqa: PLC0415

    reply = policy_place.get_revision(settings, number)
    made, text = reply.revision, text_from(reply.text)
    where = f"revision {made.number} by {made.author}"
    return _built(text, settings, where, revision=made.number)


def _of_shadow(settings: "Settings") -> Chosen:
    from meshwarden import publication  # noqa: PLC0415
    from meshwarden.follower import shadow_settings  # noqa: PLC0415

    if remote.chosen():
        return _of_remote_shadow(settings)
    apart = shadow_settings(settings)
    try:
        found = publication.load(apart.runtime.state_dir)
    except (FileNotFoundError, publication.BrokenPublicationError) as error:
        raise SupervisorError(_NO_SHADOW) from error
    return _published(found, settings, f"shadow, from {found.source}", is_live=False)


def _of_remote_shadow(settings: "Settings") -> Chosen:
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from meshwarden.policy_messages import text_from  # noqa: PLC0415
    from protos.meshwarden.v1 import shadow_pb2, shadow_pb2_grpc  # noqa: PLC0415

    with admin_service(settings.runtime.runtime_dir, shadow_pb2_grpc.ShadowStub) as service:
        reply = service.Show(shadow_pb2.ShowShadowRequest(with_text=True))
    if not reply.HasField("text"):
        raise SupervisorError(_NO_SHADOW)
    return _built(text_from(reply.text), settings, f"shadow, from {reply.candidate.origin}")


def _built(
    text: "PolicyText",
    settings: "Settings",
    where: str,
    *,
    revision: int = 0,
    folder: Path | None = None,
) -> Chosen:
    """Make a policy that no service has published ready to decide, under our own settings."""
    from meshwarden.follower import build_text  # noqa: PLC0415

    with told_under_lines(folder):
        policy = build_text(text, settings.policy.bind, settings)
    return Chosen(policy, text, settings, where, revision)


def _published(found: "Publication", settings: "Settings", where: str, *, is_live: bool) -> Chosen:
    """Make a policy that a service has published ready to decide, bound as it was there."""
    from meshwarden.follower import build_policy  # noqa: PLC0415

    with told_under_lines(None):
        policy = build_policy(found, settings)
    return Chosen(policy, found.text, settings, where, found.revision, is_live)
