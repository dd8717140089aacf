"""`meshwarden policy bundle`: the same bytes for the same input, and what a server would say."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.policy_bundle import app

RULE = "p, *, s, GET, /a, allow\n"


def run(*words: object) -> Result:
    """Run a command without a config file of this machine."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"MESHWARDEN_CONFIG": ""})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy folder."""
    made = tmp_path / "policy"
    (made / "tests").mkdir(parents=True)
    (made / "policy.csv").write_text(RULE)
    (made / "more.yaml").write_text("rules: []\n")
    (made / "tests" / "cases.yaml").write_text("cases: []\n")
    (made / "README.md").write_text("not policy\n")
    return made


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A key pair as openssl makes it."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private],
        ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return private, public


def test_a_bundle_is_made_and_verified(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Policy and cases are in it; the key that signed is named."""
    out = tmp_path / "policy.tar.gz"
    made = run("build", folder, "-f", out, "--sign-key", keys[0], "--revision", 7, "-o", "json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.output)
    assert told["files"] == ["more.yaml", "policy.csv", "tests/cases.yaml"]
    assert (told["revision"], told["signed"], told["rules"]) == (7, True, 1)
    seen = run("verify", out, "--key", keys[1], "-o", "json")
    assert json.loads(seen.output) == told
    seen = run("verify", out)
    assert "revision 7, signed, not verified: no key is given" in seen.output


def test_the_same_input_makes_the_same_bytes(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whatever time it is and whatever the files' times are."""
    made = []
    for name in ("a.tar.gz", "b.tar.gz"):
        run("build", folder, "-f", tmp_path / name, "--sign-key", keys[0])
        made.append((tmp_path / name).read_bytes())
        (folder / "policy.csv").touch()
    assert made[0] == made[1]
    # Nothing but the bundle is left where it was written.
    assert not list(tmp_path.glob(".*"))


def test_a_policy_with_a_fault_makes_no_bundle(folder: Path, tmp_path: Path) -> None:
    """Each fault is told by file and line; a bundle that was there stays."""
    out = tmp_path / "policy.tar.gz"
    out.write_bytes(b"before")
    (folder / "policy.csv").write_text(RULE + "p, *, s, GET, /a, perhaps\n")
    (folder / "bad.yaml").write_text("rules:\n  - alow: {}\n")
    made = run("build", folder, "-f", out)
    assert made.exit_code == 2
    assert f"{folder}: bad.yaml:2: 'alow' is no key of a rule" in made.output
    assert out.read_bytes() == b"before"
    (folder / "bad.yaml").unlink()
    made = run("build", folder, "-f", out, "-o", "json")
    assert made.exit_code == 2
    assert "policy.csv:2: " in made.output
    assert out.read_bytes() == b"before"


def test_what_a_server_would_refuse_is_refused(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Damage, a missing signature, a page in place of a bundle."""
    out = tmp_path / "policy.tar.gz"
    run("build", folder, "-f", out)
    seen = run("verify", out, "--key", keys[1])
    assert (seen.exit_code, seen.output) == (
        2, f"meshwarden: {out}: is not signed, and a public key is set\n",
    )  # fmt: skip
    out.write_bytes(out.read_bytes()[:-5])
    assert "is cut short" in run("verify", out).output
    out.write_text("<html>")
    seen = run("verify", out, "-o", "json")
    assert seen.exit_code == 2
    assert "is no gzip: it begins with '<html>'" in seen.output


def test_keys_that_do_not_fit_are_told(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The public one where the private is needed, and the other way round."""
    out = tmp_path / "policy.tar.gz"
    made = run("build", folder, "-f", out, "--sign-key", keys[1])
    assert made.exit_code == 2
    # In a box, which breaks lines where the path ends.
    assert "holds no private key" in " ".join(re.sub(r"[│\s]+", " ", made.output).split())
    run("build", folder, "-f", out, "--sign-key", keys[0])
    seen = run("verify", out, "--key", keys[0])
    assert seen.exit_code != 0
