"""Sections of where policy comes from and how it is executed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

__all__ = ["STORE", "Bundle", "Engine", "Policy", "Store"]

STORE = "store"
"""The policy source that is no adapter: the revision store."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where policy revisions are kept, when `policy.source` is `store`; roles and tokens too."""

    url: Annotated[
        str,
        Meta(
            description="`postgresql://USER@HOST:PORT/DATABASE` for a store that replicas share "
            "(needs the extra `postgresql`); empty for an SQLite file in the state folder. Keep a "
            "password in a passfile, not here.",
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A policy bundle on an HTTP server, when `policy.source` is `bundle`.

    `meshwarden policy bundle build` makes one.
    """

    url: Annotated[
        str,
        Meta(
            description="Where it is: `https://`, or `http://` on this machine or with `digest` or "
            "`public_key`. A redirect is followed from https to https, or to the same server."
        ),
    ] = ""
    public_key: Annotated[
        Path | None,
        Meta(
            description="PEM file of Ed25519 or P-256 keys: a bundle that none of them has signed "
            "is refused. Without, whoever can write to the server can write the policy."
        ),
    ] = None
    digest: Annotated[
        str,
        Meta(description="`sha256:HEX` of the one file to be taken; empty takes any."),
    ] = ""
    allow_older: Annotated[
        bool,
        Meta(
            description="Take a bundle whose revision is lower than that of the last one in force: "
            "to go back on purpose. Otherwise whoever sits at the server could bring back an old "
            "one, which is signed as well."
        ),
    ] = False
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file of the authorities that may vouch for the server, in place of "
            "the system's."
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Meta(
            description="File with a secret for the server, sent as `Bearer` unless it is two "
            "words; read anew each time, never logged, never sent to where a redirect leads."
        ),
    ] = None
    header: Annotated[
        str, Meta(min_length=1, description="The header that carries it, such as `private-token`.")
    ] = "authorization"
    poll_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86_400,
            description="Longest time until a new bundle is noticed, in seconds. Each look comes "
            "up to a quarter earlier, by chance. What has the same ETag is not sent again.",
        ),
    ] = 5.0
    timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="For a whole download, in seconds.")
    ] = 10.0
    max_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="Largest bundle, in bytes.")
    ] = 33_554_432
    max_unpacked_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 32, description="Most that it may unpack to, in bytes.")
    ] = 134_217_728


@dataclass(frozen=True, slots=True)
class Policy:
    """Where policy comes from."""

    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="`folder`; `bundle` for a file from an HTTP server; `store` for revisions "
            "that `meshwarden policy apply` makes; any other name is a file in adapters/policies.",
        ),
    ] = "folder"
    path: Annotated[
        Path,
        Meta(
            description="Folder of `*.csv` and `*.yaml`, and of a `model.conf` for a model of your "
            "own.",
        ),
    ] = Path("policy")
    shadow: Annotated[
        Path | None,
        Meta(
            description="Folder of a candidate policy that is judged beside the one in force and "
            "never obeyed: where it differs, `meshwarden_shadow_checks_total` and records of "
            "their own say what it would have done.",
        ),
    ] = None
    watch: Annotated[
        bool, Meta(description="Reload when the source changes, without `meshwarden reload`.")
    ] = True
    max_stale_s: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Readiness turns red when loading has failed for this long, in seconds; "
            "0 never does. The last good policy goes on deciding either way.",
        ),
    ] = 0.0
    bind: Annotated[
        Mapping[str, str],
        Meta(
            description="For a model of your own: request field to attribute, such as "
            '`sub = "source.principal"`. The built-in mesh model is bound already.'
        ),
    ] = field(default_factory=dict)
    bundle: Bundle = field(default_factory=Bundle)

    @property
    def own_folder(self) -> Path | None:
        """The folder whose lines can be shown; None where policy comes from elsewhere."""
        return self.path if self.source == "folder" else None


@dataclass(frozen=True, slots=True)
class Engine:
    """How policy is executed."""

    backtracking_regex: Annotated[
        bool,
        Meta(
            description="Let patterns that need backtracking run on Python's `re`. A caller can "
            "then choose a value that holds a front for seconds."
        ),
    ] = False
    functions: Annotated[
        tuple[str, ...],
        Meta(description="Installed modules whose functions matchers and conditions may call."),
    ] = ()
