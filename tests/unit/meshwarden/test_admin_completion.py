"""`meshwarden admin` completes roles, members and tokens that are really there."""

import asyncio
from pathlib import Path

import pytest

from authz.admin_policy import AdminPolicy
from authz.admin_tokens import Token
from authz.audit import AuditEntry
from authz.policy.rules import Row
from authz.revisions import Draft
from meshwarden import plugins
from meshwarden.settings import Policy, Runtime, Settings
from tests.unit.meshwarden.test_completion import bash

OPS = "mesh.example/ns/ops/sa/ann"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose service has members and tokens."""
    settings = Settings(runtime=Runtime(tmp_path, tmp_path), policy=Policy())
    policy = AdminPolicy([Row("g", (OPS, "role:admin")), Row("g", ("token:ci", "role:viewer"))])

    async def fill() -> None:
        store = plugins.revision_store(settings)
        entry = AuditEntry(1, "ann", "local", "x", "done")
        draft = Draft(policy.text, policy.digest, "ann", "", "")
        await store.commit("admin", 0, draft, entry)
        token = Token("0123456789ab", "deploy", b"", 1, "ann", 2)
        await store.tokens.add(token, entry, 0)
        await store.close()

    asyncio.run(fill())
    (tmp_path / "meshwarden.toml").write_text(
        f'runtime.state_dir = "{tmp_path}"\nruntime.runtime_dir = "{tmp_path}"\n'
    )
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("admin grant x a", ["author", "admin"]),
        ("admin revoke mesh", [OPS]),
        ("admin token revoke d", ["deploy"]),
        ("admin token revoke 0", ["0123456789ab"]),
        ("admin token create x --role v", ["viewer"]),
    ],
)
def test_names_are_completed(folder: Path, line: str, words: list[str]) -> None:
    """By the protocol of bash, without asking any process."""
    assert bash(folder, line) == words


def test_without_a_store_nothing_is_said(tmp_path: Path) -> None:
    """A shell is in the midst of its user's line."""
    assert bash(tmp_path, "admin token revoke d") == []
