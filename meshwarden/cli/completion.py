"""What a shell completes: names that are really there, in the live policy or the folder given.

Somebody has pressed a key and waits: what can't be had soon is left out, and nothing is ever said.
A list holds what is useful to type, so patterns are cut off at their first star where a real
request is asked about.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from authz.policy.rules import PolicyText
    from meshwarden.settings import Settings

__all__ = [
    "candidates",
    "compared",
    "decision_ids",
    "effects",
    "lint_ids",
    "methods",
    "paths",
    "patterns",
    "places",
    "principals",
    "revisions",
    "roles",
    "sentence",
    "service_patterns",
    "services",
    "setting_names",
    "settings_of",
    "soon",
    "users",
    "who",
]

_Words = list[tuple[str, str]]

_WAIT_S = 0.3
# A terminal is a page long: more words help nobody, and take a shell longer than us.
_MOST = 500
_NEWEST = 50
_WHO, _SERVICE, _METHOD, _PATH = range(4)
_MESH_FIELDS = 5
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Where commands have the folder of a policy, in the order in which they are believed.
_FOLDERS = ("policy", "folder", "new", "candidate")
_USER = "user:"
_ROLE = "role:"


def principals(ctx: typer.Context, incomplete: str) -> _Words:
    """Workloads that the policy names."""
    return _named(ctx, incomplete, lambda text: (each for each in _who(text) if _is_workload(each)))


def users(ctx: typer.Context, incomplete: str) -> _Words:
    """End users that the policy names, without their "user:"."""

    def find(text: "PolicyText") -> Iterator[str]:
        return (
            each.removeprefix(_USER)
            for each in _who(text)
            if each.startswith(_USER) and "*" not in each
        )

    return _named(ctx, incomplete, find)


def roles(ctx: typer.Context, incomplete: str) -> _Words:
    """Roles that somebody has or a rule speaks of."""

    def find(text: "PolicyText") -> Iterator[str]:
        for row in text.rows:
            if row.ptype[0] == "g" and len(row.values) > 1:
                yield row.values[1]
        yield from (each for each in _who(text) if each.startswith(_ROLE))

    return _named(ctx, incomplete, find)


def who(ctx: typer.Context, incomplete: str) -> _Words:
    """Whoever a rule may speak of: workloads, patterns of them, users, roles, anybody."""
    return _named(ctx, incomplete, lambda text: (*_who(text), "*"))


def services(ctx: typer.Context, incomplete: str) -> _Words:
    """Services that the policy names in full."""
    return _named(
        ctx, incomplete, lambda text: (each for each in _column(text, _SERVICE) if "*" not in each)
    )


def service_patterns(ctx: typer.Context, incomplete: str) -> _Words:
    """Services as rules have them."""
    return _named(ctx, incomplete, lambda text: _column(text, _SERVICE))


def methods(ctx: typer.Context, incomplete: str) -> _Words:
    """HTTP methods: the usual ones, and those that the policy names."""

    def find(text: "PolicyText") -> Iterator[str]:
        yield from _METHODS
        for names in _column(text, _METHOD):
            yield from (name for name in names.split("|") if "*" not in name)

    upper = incomplete.upper()
    usual = [(name, "") for name in _METHODS if name.startswith(upper)]
    return _named(ctx, upper, find) or usual


def paths(ctx: typer.Context, incomplete: str) -> _Words:
    """Paths that the policy names; of a pattern what stands before its first star."""
    return _named(
        ctx, incomplete, lambda text: (each.partition("*")[0] for each in _column(text, _PATH))
    )


def patterns(ctx: typer.Context, incomplete: str) -> _Words:
    """Paths as rules have them."""
    return _named(ctx, incomplete, lambda text: _column(text, _PATH))


def places(ctx: typer.Context, incomplete: str) -> _Words:
    """Where rules are written, as file:line, and their files."""

    def find() -> Iterator[tuple[str, str]]:
        seen = set()
        for row in _text(ctx).rows:
            if row.ptype[0] == "p" and row.file:
                if row.file not in seen:
                    seen.add(row.file)
                    yield row.file, ""
                yield f"{row.file}:{row.line}", ", ".join((row.ptype, *row.values))

    return soon(find, incomplete)


def effects(_ctx: typer.Context, incomplete: str) -> _Words:
    """The two there are."""
    return [(each, "") for each in ("allow", "deny") if each.startswith(incomplete)]


def sentence(ctx: typer.Context, incomplete: str) -> _Words:
    """The next word of "WHO to METHOD PATH on SERVICE when CONDITION"."""
    said = len(ctx.params.get("words") or ())
    # By how many words stand before it.
    names = {0: who, 2: methods, 3: patterns, 5: service_patterns}.get(said)
    if names is not None:
        return names(ctx, incomplete)
    word = {1: "to", 4: "on", 6: "when"}.get(said, "")
    return [(word, "")] if word and word.startswith(incomplete) else []


def revisions(ctx: typer.Context, incomplete: str) -> _Words:
    """Numbers of the newest revisions, with author and message."""

    def find() -> Iterator[tuple[str, str]]:
        settings = settings_of(ctx)
        if not settings.store.url:
            yield from _revisions_here(settings.runtime.state_dir / "meshwarden.db")
            return
        from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
        from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

        with policy_service(settings.runtime.runtime_dir) as service:
            found = service.History(policy_pb2.HistoryRequest(limit=_NEWEST), timeout=_WAIT_S)
        for each in found.revisions:
            yield _revision(each.number, each.author, each.message)

    return soon(find, incomplete)


def candidates(ctx: typer.Context, incomplete: str) -> _Words:
    """What --candidate takes: the shadow, a revision, a folder."""

    def folders() -> Iterator[tuple[str, str]]:
        stem = Path(incomplete or ".")
        parent = stem if not incomplete or incomplete.endswith("/") else stem.parent
        for each in sorted(parent.iterdir()):
            if each.is_dir() and not each.name.startswith("."):
                yield str(each), "folder"

    shadow = [("shadow", "the candidate beside the live policy")]
    return [
        *(each for each in shadow if each[0].startswith(incomplete)),
        *soon(folders, incomplete),
        *revisions(ctx, incomplete),
    ]


def compared(ctx: typer.Context, incomplete: str) -> _Words:
    """What a difference is told of: the live policy, a revision, a folder."""
    found = candidates(ctx, incomplete)
    live = [("live", "what is in force")] if "live".startswith(incomplete) else []
    return [*live, *(each for each in found if each[0] != "shadow")]


def decision_ids(ctx: typer.Context, incomplete: str) -> _Words:
    """Ids of the newest decisions on record."""

    def find() -> Iterator[tuple[str, str]]:
        from meshwarden import plugins  # noqa: PLC0415
        from telemetry.sink import Search  # noqa: PLC0415

        archive = plugins.decision_archive(settings_of(ctx))
        found = archive.search(Search(limit=_NEWEST)) if archive is not None else []
        for kept in reversed(found):
            record = kept.record
            caller = record.principal or record.user or "anybody"
            yield record.id, f"{record.verdict} {caller} {record.method} {record.path}"

    return soon(find, incomplete)


def setting_names(_ctx: typer.Context, incomplete: str) -> _Words:
    """Keys of the configuration."""

    def find() -> Iterator[tuple[str, str]]:
        from meshwarden.config import KEYS  # noqa: PLC0415

        return ((name, key.meta.description or "") for name, key in KEYS.items())

    return soon(find, incomplete)


def lint_ids(_ctx: typer.Context, incomplete: str) -> _Words:
    """Ids of the lints."""

    def find() -> Iterator[tuple[str, str]]:
        from authz.authoring.lint import every_lint  # noqa: PLC0415

        return ((each.id, each.what) for each in every_lint())

    return soon(find, incomplete)


def _named(
    ctx: typer.Context, incomplete: str, find: Callable[["PolicyText"], Iterable[str]]
) -> _Words:
    """Names out of a policy's rows, each once."""

    def words() -> Iterator[tuple[str, str]]:
        found = sorted({name for name in find(_text(ctx)) if name})
        return ((name, "") for name in found)

    return soon(words, incomplete)


def soon(find: Callable[[], Iterable[tuple[str, str]]], incomplete: str) -> _Words:
    """Look for words, but not for long, and in silence."""
    found: _Words = []

    def look() -> None:
        try:
            for word, said in find():
                if word.startswith(incomplete):
                    found.append((word, _one_line(said)))
                if len(found) >= _MOST:
                    return
        except BaseException:  # noqa: BLE001 - a shell is in the midst of its user's line
            return

    # A daemon: one that hangs must not keep the process, and with it the shell, waiting.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_WAIT_S)
    return list(found)


def _revisions_here(database: Path) -> Iterator[tuple[str, str]]:
    """Read the embedded store itself: to ask control takes as long as a shell may wait."""
    import sqlite3  # noqa: PLC0415

    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT number, author, message FROM meshwarden_revision WHERE stream = 'policy' "
            "ORDER BY number DESC LIMIT ?",
            (_NEWEST,),
        )
        yield from (_revision(*row) for row in found)


def _revision(number: int, author: str, message: str) -> tuple[str, str]:
    return str(number), f"{author}: {message}".removesuffix(": ")


def _one_line(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= 60 else f"{line[:59]}…"  # noqa: PLR2004 - about half a terminal


def settings_of(ctx: typer.Context) -> "Settings":
    """Settings as the line so far asks for them."""
    from meshwarden.cli.options import load_settings  # noqa: PLC0415

    config = ctx.params.get("config")
    return load_settings(Path(config) if config else None).settings


def _text(ctx: typer.Context) -> "PolicyText":
    """The policy of the folder that stands on the line already; else the live one."""
    from meshwarden import plugins, publication  # noqa: PLC0415

    given: list[Any] = [ctx.params.get(name) for name in _FOLDERS]
    if "folder" in ctx.params:
        # While an option waits for its value, what stands alone has no name yet.
        given += ctx.args
    for each in given:
        if each and Path(each).is_dir():
            return _folder(Path(each))
    settings = settings_of(ctx)
    # `check --server` calls Check there, and reads no policy.
    if ctx.params.get("server") and "server_ca" in ctx.params:
        return _elsewhere(ctx, settings)
    try:
        return publication.load(settings.runtime.state_dir).text
    except (FileNotFoundError, publication.BrokenPublicationError):
        text: PolicyText = plugins.policy_source(settings).load()
        return text


def _elsewhere(ctx: typer.Context, settings: "Settings") -> "PolicyText":
    """The live policy of a service on another machine, if it answers within our time."""
    from meshwarden.cli.policies import live_policy  # noqa: PLC0415
    from meshwarden.cli.remote import choosing, remote_of  # noqa: PLC0415

    with choosing(remote_of(ctx.params)):
        return live_policy(settings).text


def _folder(folder: Path) -> "PolicyText":
    from meshwarden import plugins  # noqa: PLC0415

    adapter = plugins.load("policies", "folder")
    text: PolicyText = adapter.build(adapter.config(path=folder)).load()
    return text


def _who(text: "PolicyText") -> Iterator[str]:
    for row in text.rows:
        if row.values:
            yield row.values[0]


def _column(text: "PolicyText", index: int) -> Iterator[str]:
    """A field of the mesh model's rules; a model of somebody's own has fields of its own."""
    if text.model_file != "mesh":
        return
    for row in text.rows:
        if row.ptype == "p" and len(row.values) >= _MESH_FIELDS:
            yield row.values[index]


def _is_workload(name: str) -> bool:
    return not name.startswith((_USER, _ROLE)) and "*" not in name
