"""Every setting there is: one frozen dataclass a section, one field a key.

A key is defined here and nowhere else. Its type, bounds, default and words come from its field;
loading (meshwarden/config.py) and the reference in docs/config.md are read off the same fields.

To add a key, add a field. Never rename or reuse one: files in the field outlive this code.
"""

from dataclasses import dataclass, field

from meshwarden.settings.address import Address
from meshwarden.settings.agent import Agent
from meshwarden.settings.checks import Allowed, Check, Decisions, Denied
from meshwarden.settings.folders import Runtime, default_runtime_dir, default_state_dir
from meshwarden.settings.identity import Identity
from meshwarden.settings.policy import STORE, Bundle, Engine, Policy, Store
from meshwarden.settings.serving import Admin, Fallback, Listen, Server, Tls

__all__ = [
    "STORE",
    "Address",
    "Admin",
    "Allowed",
    "Bundle",
    "Check",
    "Decisions",
    "Denied",
    "Engine",
    "Fallback",
    "Identity",
    "Listen",
    "Policy",
    "Runtime",
    "Server",
    "Settings",
    "Store",
    "Tls",
    "default_runtime_dir",
    "default_state_dir",
]


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, validated: paths are absolute, and what depends fits together.

    `meshwarden.config.load` makes one from a file; fields given by hand are not checked.
    """

    listen: Listen = field(default_factory=Listen)
    fallback: Fallback = field(default_factory=Fallback)
    runtime: Runtime = field(default_factory=Runtime)
    server: Server = field(default_factory=Server)
    policy: Policy = field(default_factory=Policy)
    store: Store = field(default_factory=Store)
    admin: Admin = field(default_factory=Admin)
    engine: Engine = field(default_factory=Engine)
    check: Check = field(default_factory=Check)
    decisions: Decisions = field(default_factory=Decisions)
    identity: Identity = field(default_factory=Identity)
    agent: Agent = field(default_factory=Agent)
