"""A start that can't be right is refused at once: exit code 2, and a sentence on what to do."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.instance import Instance, Place
from tests.e2e.support.service import service_port


def refusal(place: Place) -> str:
    """Start where it must be refused; give what it said last."""
    with place.start() as instance:
        code = instance.ended()
        said = instance.said()
    assert code == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.fixture(scope="module")
def first(new_place: NewPlace) -> Iterator[Instance]:
    """Run the instance that is there already."""
    with new_place().start() as instance:
        yield instance.wait_ready()


def test_a_second_instance_on_an_address_is_refused(first: Instance, new_place: NewPlace) -> None:
    """SO_REUSEPORT alone would let it answer every other connection."""
    address = f"127.0.0.1:{first.place.port}"
    said = refusal(new_place({"listen.address": address}))
    assert said == f"meshwarden: listen.address: another Meshwarden instance holds {address}"
    assert first.answers()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_that_overlaps_another_instances_is_refused(
    host: str, first: Instance, new_place: NewPlace
) -> None:
    """Every interface includes the other's."""
    wide = {
        "listen.address": f"{host}:{first.place.port}",
        "listen.allow_plaintext_beyond_loopback": True,
    }
    said = refusal(new_place(wide))
    assert f"127.0.0.1:{first.place.port}, which overlaps {host}:{first.place.port}" in said


def test_instances_on_other_loopback_addresses_live_side_by_side(
    first: Instance, new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """The same port of another address is another address."""
    place = new_place({"listen.address": f"127.0.0.2:{first.place.port}"})
    run(place).wait_ready()
    assert first.answers()


def test_a_second_instance_in_a_runtime_folder_is_refused(
    first: Instance, new_place: NewPlace
) -> None:
    """By whichever name it is reached."""
    place = new_place()
    link = place.folder / "link"
    link.symlink_to(first.place.run_dir)
    place.settings["runtime.runtime_dir"] = str(link)
    said = refusal(place)
    assert said.startswith("meshwarden: runtime.runtime_dir: another Meshwarden instance uses")
    assert first.status()["ready"]


def test_a_second_instance_in_a_state_folder_is_refused(
    first: Instance, new_place: NewPlace
) -> None:
    """Two would publish their policies over each other's."""
    said = refusal(new_place({"runtime.state_dir": str(first.place.state_dir)}))
    assert said.startswith("meshwarden: runtime.state_dir: another Meshwarden instance uses")


def test_a_port_that_another_program_serves_is_refused(new_place: NewPlace) -> None:
    """Also one that would share it."""
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", service_port()))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = refusal(new_place({"listen.address": address}))
    assert said.startswith(f"meshwarden: listen.address: {address} can't be bound: Address already")
    assert "another program serves it" in said


def test_an_address_that_is_no_address_of_the_machine_is_refused(new_place: NewPlace) -> None:
    """TEST-NET-1 of RFC 5737 is nobody's."""
    far = {"listen.address": "192.0.2.1:9191", "listen.allow_plaintext_beyond_loopback": True}
    said = refusal(new_place(far))
    assert "192.0.2.1:9191 can't be bound: Cannot assign requested address" in said


def test_without_fronts_the_port_of_the_http_endpoints_is_looked_at_too(
    new_place: NewPlace,
) -> None:
    """Control would else be started again for ever."""
    with closing(socket.create_server(("127.0.0.1", service_port()))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = refusal(new_place({"fallback.http_address": address, "server.transport": "grpcio"}))
    assert said.startswith(f"meshwarden: fallback.http_address: {address} can't be bound")


def test_a_folder_of_other_peoples_is_left_as_it_was(new_place: NewPlace) -> None:
    """A slip such as runtime_dir = "/tmp" must not lock everybody out of it."""
    place = new_place()
    shared = place.folder / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "theirs.sock").touch()
    place.settings["runtime.runtime_dir"] = str(shared)
    assert "is open to other users and holds something already" in refusal(place)
    assert shared.stat().st_mode & 0o777 == 0o755
    assert (shared / "theirs.sock").exists()


def test_a_first_start_with_a_bad_policy_names_every_fault(new_place: NewPlace) -> None:
    """There is nothing to fall back on, and serving nothing would look like a working service."""
    place = new_place()
    (place.policy / "policy.csv").write_text("p, *, *, GET, /a, Deny\np, *, *\n")
    (place.policy / "more.csv").write_text("p, *, *, GET, /b, maybe\n")
    with place.start() as instance:
        code = instance.ended()
        told = [line for line in instance.said().splitlines() if line.startswith("meshwarden: ")]
    assert code == 2
    where = {line.split(": ")[1] for line in told[:-1]}
    assert where == {"policy.csv:1", "policy.csv:2", "more.csv:1"}
    assert told[-1] == "meshwarden: no policy to serve: mend the faults above and start again"
    leftovers = {path.name for path in place.run_dir.iterdir()}
    assert not [name for name in leftovers if name.endswith(".sock") or name.startswith("hr_")]


def test_a_first_start_without_the_policy_folder_says_so(new_place: NewPlace) -> None:
    """The path is in the message."""
    place = new_place(policy={})
    place.policy.rmdir()
    with place.start() as instance:
        assert instance.ended() == 2
        assert f"meshwarden: {place.policy}: can't be read: No such file" in instance.said()
