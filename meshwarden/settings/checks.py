"""Sections of how requests are read and answered, and what is recorded of that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

__all__ = ["PLACEHOLDERS", "Allowed", "Check", "Decisions", "Denied"]

# Placeholders that header values of [check] may hold; authz/decision.py fills them in.
PLACEHOLDERS = ("decision_id", "principal", "user", "rule", "digest", "verdict")


@dataclass(frozen=True, slots=True)
class Denied:
    """The answer to a denied request."""

    body: Annotated[
        Literal["json", "text", "none"], Meta(description="The body that the caller gets.")
    ] = "json"
    reveal_rule: Annotated[
        bool,
        Meta(
            description="Name the deciding rule in the body. The caller then learns how your "
            "policy is written; the decision log and metadata name it always."
        ),
    ] = False
    challenge: Annotated[
        str,
        Meta(
            min_length=1,
            description="The `www-authenticate` header of a 401 (RFC 9110 section 11.6.1), which "
            "is the answer where a credential could have made a rule match.",
        ),
    ] = "Bearer"
    response_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the response to the caller.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is done to an allowed request."""

    request_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the request to the upstream.")
    ] = field(default_factory=dict)
    remove_request_headers: Annotated[
        tuple[str, ...], Meta(description="Headers taken off the request to the upstream.")
    ] = ()
    response_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the response to the caller.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """How a CheckRequest is read and answered.

    The value of a header set below may hold {decision_id}, {principal}, {user}, {rule}, {digest}
    and {verdict}.
    """

    ambiguous_paths: Annotated[
        Literal["deny", "normalise"],
        Meta(
            description="What is done with a path that servers read in different ways (`%2F`, a "
            "backslash, a NUL, a broken encoding): `deny` it, or decide on its normal form. The "
            "upstream gets the path as it was."
        ),
    ] = "deny"
    error_response: Annotated[
        bool,
        Meta(
            description="Answer a fault of ours (no policy yet, an internal fault) with "
            "CheckResponse `error_response` in place of an "
            "RPC error. Only for sidecars whose Envoy knows that field."
        ),
    ] = False
    max_request_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=268_435_456,
            description="Largest CheckRequest, in bytes. Above the sidecars' "
            "`with_request_body.max_request_bytes`, or large bodies fail to be judged.",
        ),
    ] = 16_777_216
    trusted_hops: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None,
        Meta(
            description="Proxies before the sidecar that append to `x-forwarded-for`: `remote.ip` "
            "is then read from that header, this many from its right. Without, it is the "
            "connection's address, and the header is not believed.",
            extra={"default": "none", "example": "1"},
        ),
    ] = None
    allowed: Allowed = field(default_factory=Allowed)
    denied: Denied = field(default_factory=Denied)


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decision log: JSON lines, and a database to be searched."""

    sample_allows: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of allowed requests that is logged. Denials all are."),
    ] = 0.01
    headers: Annotated[
        tuple[str, ...],
        Meta(
            description="Request headers whose values records keep and near misses tell; none is "
            "otherwise. `authorization`, `cookie` and whatever else may open doors (by its name or "
            "its form) is kept as `[masked]` only, also when it is listed."
        ),
    ] = ()
    claims: Annotated[
        tuple[str, ...],
        Meta(
            description="Claims of end users' tokens that records keep, likewise. Issuer and "
            "subject are kept always, as `user`."
        ),
    ] = ()
    queue_records: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Records a front holds for control, and control for each sink; more are "
            "dropped and counted.",
        ),
    ] = 10_000
    sinks: Annotated[
        tuple[str, ...],
        Meta(
            description="Where records are kept: `jsonl` and `sqlite`, under the state folder, and "
            "`postgresql`, which replicas share. `meshwarden decisions` reads the first of them "
            "that is a database. Any other name is a file in adapters/decisions."
        ),
    ] = ("jsonl", "sqlite")
    url: Annotated[
        str,
        Meta(
            description="`postgresql://USER@HOST:PORT/DATABASE` of the sink `postgresql` (needs "
            "the extra `postgresql`); empty is that of `store.url`. Keep a password in a passfile, "
            "not here."
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=63,
            description="The schema of its tables, for records alone; made if it isn't there.",
        ),
    ] = "meshwarden_decisions"
    days: Annotated[
        int, Meta(ge=1, le=36_500, description="Age at which a record is removed, in days.")
    ] = 30
    database_bytes: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=1 << 40,
            description="Size at which a database gives up its oldest records, in bytes. The "
            "write-ahead log of `decisions.db`, some MB, comes on top.",
        ),
    ] = 536_870_912
    file_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1 << 40,
            description="Size at which a new file of JSON lines is begun, in bytes.",
        ),
    ] = 67_108_864
    files: Annotated[
        int, Meta(ge=1, le=10_000, description="Files of JSON lines kept; the oldest is removed.")
    ] = 8
