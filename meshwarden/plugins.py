"""Finds an adapter by the name the config file uses.

The module path is the registry: `policy.source = "folder"` is adapters/policies/folder.py. There
is no list to edit, nothing is imported until it is asked for, and a name that is not a file in
that folder is refused before anything is imported.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING

from adapters.spec import AnyAdapter
from meshwarden.errors import UnknownAdapterError
from meshwarden.settings import STORE, Settings

if TYPE_CHECKING:
    # Every command loads this file, and these take a while to import.
    from authz.policy_source import PolicySource
    from authz.revisions import RevisionStore
    from telemetry.sink import DecisionArchive, DecisionSink

__all__ = [
    "decision_archive",
    "decision_sinks",
    "load",
    "names",
    "policy_source",
    "revision_store",
]


def names(kind: str) -> list[str]:
    """List the adapters of one kind, such as "policies", in alphabetical order."""
    package = importlib.import_module(f"adapters.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(kind: str, name: str) -> AnyAdapter:
    """Import one adapter.

    Raises:
        UnknownAdapterError: No such file; the message lists the names there are.
    """
    known = names(kind)
    if name not in known:
        raise UnknownAdapterError(f"no {kind} adapter {name!r}; there are: {', '.join(known)}")
    adapter: AnyAdapter = importlib.import_module(f"adapters.{kind}.{name}").ADAPTER
    return adapter


def revision_store(settings: Settings) -> "RevisionStore":
    """Build the store that `store.url` names: a PostgreSQL, or the embedded SQLite without one."""
    if settings.store.url:
        adapter = load("revisions", "postgresql")
        config = adapter.config(url=settings.store.url)
    else:
        adapter = load("revisions", "sqlite")
        config = adapter.config(path=settings.runtime.state_dir / "meshwarden.db")
    store: RevisionStore = adapter.build(config)
    return store


def policy_source(settings: Settings) -> "PolicySource":
    """Build the policy source that the settings name.

    Raises:
        UnknownAdapterError: There is none of that name.
    """
    if settings.policy.source == STORE:
        raise UnknownAdapterError("policy comes from the store here: name a FOLDER")
    adapter = load("policies", settings.policy.source)
    # A source's settings are those keys of its own section that it has a field for.
    own = getattr(settings.policy, settings.policy.source, None)
    known = {
        "path": settings.policy.path,
        "state_dir": settings.runtime.state_dir,
        **(
            {each.name: getattr(own, each.name) for each in fields(own)}
            if is_dataclass(own)
            else {}
        ),
    }
    config = {field.name: known[field.name] for field in fields(adapter.config)}
    source: PolicySource = adapter.build(adapter.config(**config))
    return source


def decision_sinks(settings: Settings) -> "Mapping[str, DecisionSink]":
    """Build the sinks of decision records that the settings name; none is opened.

    Raises:
        UnknownAdapterError: There is none of that name.
    """
    # A sink's own settings are those keys of [decisions] that it has a field for.
    known = {"state_dir": settings.runtime.state_dir, **asdict(settings.decisions)}
    known["url"] = settings.decisions.url or settings.store.url
    sinks: dict[str, DecisionSink] = {}
    for name in settings.decisions.sinks:
        adapter = load("decisions", name)
        own = {field.name: known[field.name] for field in fields(adapter.config)}
        sinks[name] = adapter.build(adapter.config(**own))
    return sinks


def decision_archive(settings: Settings) -> "DecisionArchive | None":
    """Build what reads decision records again; None where no sink of the settings can."""
    archives = (sink.archive() for sink in decision_sinks(settings).values())
    return next((archive for archive in archives if archive is not None), None)
