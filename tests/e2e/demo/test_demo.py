"""The demo keeps its word, and notices when it doesn't."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REQUESTS = ROOT / "deploy" / "demo" / "requests.toml"
COMMAND = [sys.executable, "-m", "deploy.demo.run"]

pytestmark = pytest.mark.e2e


def run_once(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, with its temporary folder in ours."""
    return subprocess.run(
        [*COMMAND, "--once", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a short path: the kernel limits those of the sockets made in it."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        yield Path(name)


@pytest.mark.parametrize("transport", ["auto", "grpcio"])
def test_every_verdict_is_as_the_expectation_file_says(folder: Path, transport: str) -> None:
    """Through fronts and without them; the last line counts, and nothing is left behind."""
    done = run_once(folder, "--transport", transport)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.fullmatch(
        r"demo: (\d+) requests, (\d+) allowed, (\d+) denied, 0 wrong",
        done.stdout.splitlines()[-1],
    )
    assert counts is not None
    sent, allowed, denied = map(int, counts.groups())
    assert sent >= 10
    assert allowed + denied == sent
    assert min(allowed, denied) >= 4
    assert list(folder.iterdir()) == []


def test_a_verdict_that_differs_is_named_and_fails_the_demo(folder: Path) -> None:
    """One verdict and one rule of the file are made wrong; both are told, and nothing else."""
    text = REQUESTS.read_text()
    lied = text.replace('rule = "policy.csv:14"', 'rule = "policy.csv:15"')
    lied = lied.replace('verdict = "deny"\nstatus = 401', 'verdict = "allow"\nstatus = 200')
    doctored = folder / "doctored.toml"
    doctored.write_text(lied)

    done = run_once(folder, "--requests", doctored)

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(", 2 wrong")
    words = " ".join(re.sub(r"[│\s]+", " ", done.stdout).split())
    assert done.stdout.count("WRONG") == 2
    assert "policy.csv:15" in words
    assert "not 200" in words


def test_left_running_it_obeys_a_change_of_its_policy_and_ends_cleanly(folder: Path) -> None:
    """The way that it tells the user to go."""
    with (
        (folder / "out").open("w") as output,
        subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as demo,
    ):
        try:
            said = wait_for(folder / "out", r"demo: \d+ requests.* 0 wrong")
            home = Path(find(r"cd (\S+)", said))
            url = find(r"-X DELETE (\S+)", said)
            assert status_of("DELETE", url) == 403
            with (home / "policy" / "policy.csv").open("a") as policy:
                policy.write("p, role:shop, orders, DELETE, /orders/*, allow\n")
            deadline = time.monotonic() + 20
            while status_of("DELETE", url) != 200:
                assert time.monotonic() < deadline, "the change was not obeyed"
                time.sleep(0.1)
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(30)
    assert not home.exists()
    assert str(home) not in command_lines()


def wait_for(file: Path, pattern: str) -> str:
    """Wait until a file has a line like that; give the whole text."""
    deadline = time.monotonic() + 60
    while re.search(pattern, text := file.read_text()) is None:
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    return text


def find(pattern: str, text: str) -> str:
    """Give what the pattern's group matches; it has to."""
    found = re.search(pattern, text)
    assert found is not None, text
    return found.group(1)


def status_of(method: str, url: str) -> int:
    """Send a request through the frontend's own Envoy; give the HTTP status."""
    request = urllib.request.Request(url, method=method)  # noqa: S310 - the demo's own URL
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def command_lines() -> str:
    """Give the command lines of all processes there are."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile
    return "\n".join(lines)
