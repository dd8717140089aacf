"""`meshwarden identity` where a process has several identities, or nobody is asked."""

import asyncio
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app
from tests.fakes.endpoint import Endpoint, endpoint, own_entry

WEB, ZOO = "spiffe://td.example/web", "spiffe://td.example/zoo"


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        yield Path(name)


def ask(served: Endpoint, *words: str) -> Awaitable[Result]:
    """Run a command in this process, in a thread."""
    arguments = ["identity", *words, "--socket", f"unix://{served.socket}"]
    return asyncio.to_thread(CliRunner().invoke, app, arguments)


def run(short: Path, test: Callable[[Endpoint], Awaitable[None]]) -> None:
    """Run a test on an endpoint with two identities for this process."""

    async def in_loop() -> None:
        async with asyncio.timeout(30), endpoint(short) as served:
            served.know(own_entry(hint="site"), own_entry("zoo"))
            await test(served)

    asyncio.run(in_loop())


def shown(result: Result) -> list[str]:
    """Give the SPIFFE IDs that a command told as JSON."""
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    return [each["spiffe_id"] for each in (told["svids"] if isinstance(told, dict) else told)]


@pytest.mark.parametrize("kind", [["x509"], ["jwt", "--audience", "shop"]])
def test_what_is_shown_is_what_was_asked_for(short: Path, kind: list[str]) -> None:
    """All identities, or the one that is named, by its ID or its hint."""

    async def story(served: Endpoint) -> None:
        fetch = ("fetch", *kind, "-o", "json")
        assert shown(await ask(served, *fetch)) == [WEB, ZOO]
        assert shown(await ask(served, *fetch, "--spiffe-id", ZOO)) == [ZOO]
        assert shown(await ask(served, *fetch, "--hint", "site")) == [WEB]
        for wrong in (("--spiffe-id", "spiffe://td.example/no"), ("--hint", "no")):
            result = await ask(served, *fetch, *wrong)
            assert result.exit_code == 1
            assert wrong[1] in result.stderr or f"there are: {WEB} (site), {ZOO}" in result.stderr

    run(short, story)


def test_the_identity_that_is_named_is_written(short: Path) -> None:
    """The first of them otherwise."""

    async def story(served: Endpoint) -> None:
        for options, expected in ((("--spiffe-id", ZOO), ZOO), ((), WEB)):
            folder = short / expected[-3:]
            result = await ask(served, "fetch", "--write", str(folder), *options)
            assert result.exit_code == 0, result.output
            written = await asyncio.to_thread((folder / "svid.pem").read_bytes)
            (svid,) = [
                each for each in served.identities.svids.values() if each.spiffe_id == expected
            ]
            leaf, *_ = x509.load_pem_x509_certificates(written)
            assert leaf.public_bytes(Encoding.DER) == svid.chain[0]

    run(short, story)


@asynccontextmanager
async def writing(
    served: Endpoint, folder: Path, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Keep the files of an identity in a folder, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshwarden", "identity", "write", "--dir", str(folder)),
        *("--socket", f"unix://{served.socket}", *options),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def lines(file: Path, count: int) -> None:
    """Wait until a file has so many lines."""
    while not file.exists() or len(file.read_text().splitlines()) < count:
        await asyncio.sleep(0.01)


def test_files_that_can_not_be_written_for_a_while_are_written_then(short: Path) -> None:
    """The renewal waits for a disk that is full; a daemon that ended would leave them to expire."""

    async def story(served: Endpoint) -> None:
        folder, aside = short / "id", short / "aside"
        async with writing(served, folder) as process:
            assert process.stderr is not None
            while not (folder / "svid.pem").exists():
                await asyncio.sleep(0.01)
            before = (folder / "svid.pem").read_bytes()
            folder.rename(aside)
            folder.write_text("in the way")
            served.know(own_entry(hint="site", version=2), own_entry("zoo"))
            assert b"File exists; trying again" in await process.stderr.readline()
            folder.unlink()
            while not (folder / "svid.pem").exists():
                await asyncio.sleep(0.01)
            assert (folder / "svid.pem").read_bytes() != before

    run(short, story)


def test_a_command_runs_for_the_identity_that_is_written_and_for_no_other(short: Path) -> None:
    """Another one of the same process may be renewed every few seconds: nobody reloads for that."""

    async def story(served: Endpoint) -> None:
        folder, runs = short / "id", short / "runs"
        check = short / "check"
        check.write_text(f"#!/bin/sh\nreadlink {folder}/..data >> {runs}\n")
        check.chmod(0o700)
        async with writing(served, folder, "--spiffe-id", ZOO, "--run", str(check)):
            await lines(runs, 1)
            for version in range(2, 8):
                before = (folder / "..data").readlink()
                served.know(own_entry(hint="site", version=version), own_entry("zoo"))
                await asyncio.sleep(0.1)
                assert (folder / "..data").readlink() == before
            served.know(own_entry(hint="site"), own_entry("zoo", version=2))
            await lines(runs, 2)
        first, second = runs.read_text().splitlines()
        assert first != second

    run(short, story)


def test_files_that_somebody_removed_are_written_again_at_the_next_word(short: Path) -> None:
    """Whatever that is about: nothing else tells of them until the identity itself is renewed."""

    async def story(served: Endpoint) -> None:
        folder, runs = short / "id", short / "runs"
        command = f"sh -c 'echo run >> {runs}'"
        async with writing(served, folder, "--spiffe-id", ZOO, "--run", command):
            await lines(runs, 1)
            key = (folder / "svid.key").read_bytes()
            (folder / "svid.key").unlink()
            served.know(own_entry(hint="site", version=2), own_entry("zoo"))
            await lines(runs, 2)
            assert (folder / "svid.key").read_bytes() == key
            shutil.rmtree(folder)
            served.know(own_entry(hint="site", version=3), own_entry("zoo"))
            await lines(runs, 3)
            assert (folder / "svid.key").read_bytes() == key

    run(short, story)


def test_a_command_that_can_not_be_read_is_refused_before_anything_is_written(short: Path) -> None:
    """Else the files would be renewed, and whoever uses them never told."""

    async def story(served: Endpoint) -> None:
        folder = short / "id"
        result = await ask(served, "write", "--dir", str(folder), "--run", "sh -c 'exit")
        assert result.exit_code == 2
        assert "--run: no closing quotation: sh -c 'exit" in result.stderr
        assert not folder.exists()

    run(short, story)


def test_tokens_of_several_identities_are_told_apart_beside_them(short: Path) -> None:
    """On standard error: a script takes what is on standard output for one token."""

    async def story(served: Endpoint) -> None:
        both = await ask(served, "fetch", "jwt", "--audience", "shop")
        assert len(both.stdout.splitlines()) == 2
        assert f"{WEB}, {ZOO}: --spiffe-id or --hint picks one" in both.stderr
        one = await ask(served, "fetch", "jwt", "--audience", "shop", "--hint", "site")
        assert (len(one.stdout.splitlines()), one.stderr) == (1, "")

    run(short, story)


def test_where_nobody_answers_the_endpoint_is_named(short: Path) -> None:
    """With the system's own word for it, and exit code 2."""
    missing = CliRunner().invoke(app, ["identity", "fetch", "--socket", f"{short}/none"])
    assert missing.exit_code == 2
    assert f"{short}/none: no Workload API answers: No such file or directory" in missing.stderr
    with socket.create_server(("127.0.0.1", 0)) as closed:
        where = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
    refused = CliRunner().invoke(app, ["identity", "fetch", "--socket", where])
    assert refused.exit_code == 2
    assert f"{where}: no Workload API answers: Connection refused" in refused.stderr
