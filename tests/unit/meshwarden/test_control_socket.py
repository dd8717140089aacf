"""Asking a running service: one JSON line out, one back."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshwarden.control_socket import ask
from meshwarden.errors import SupervisorError


@contextmanager
def service(folder: Path, answer: bytes | None) -> Iterator[list[bytes]]:
    """Listen as a supervisor does, once; None never answers. Gives the lines that came."""
    heard: list[bytes] = []
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(1000))
            if answer is None:
                done.wait(10)
            else:
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "supervisor.sock"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield heard
        done.set()
        thread.join(10)


def test_an_operation_is_sent_and_its_answer_returned(tmp_path: Path) -> None:
    """As one line each."""
    with service(tmp_path, b'{"ok": true, "ready": true}\n') as heard:
        assert ask(tmp_path, "status", 5) == {"ready": True}
    assert heard == [b'{"op":"status"}\n']


def test_a_refusal_carries_its_reason(tmp_path: Path) -> None:
    """And the rest of the answer, for programs."""
    refusal = b'{"ok": false, "error": "policy.csv:1: no", "digest": "ab"}\n'
    with service(tmp_path, refusal), pytest.raises(SupervisorError, match="csv:1: no") as caught:
        ask(tmp_path, "reload", 5)
    assert caught.value.answer["digest"] == "ab"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "stopped before it answered"),
        (b"HTTP/1.1 400\r\n", "no answer of Meshwarden"),
        (b"[]\n", "no answer of Meshwarden"),
        (b"{}\n", "gave no reason"),
    ],
)
def test_an_answer_of_something_else_is_a_fault(tmp_path: Path, answer: bytes, said: str) -> None:
    """Never taken for a success."""
    with service(tmp_path, answer), pytest.raises(SupervisorError, match=said):
        ask(tmp_path, "status", 5)


def test_a_silent_service_is_not_waited_for(tmp_path: Path) -> None:
    """The time-out is the caller's."""
    with service(tmp_path, None), pytest.raises(SupervisorError, match=r"within 0\.1 s"):
        ask(tmp_path, "status", 0.1)


def test_no_service_is_told_from_a_dead_one_by_nobody(tmp_path: Path) -> None:
    """No folder, no socket, a socket that somebody left behind: none runs."""
    for folder in (tmp_path / "no", tmp_path):
        with pytest.raises(SupervisorError, match="no service runs on"):
            ask(folder, "status", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / "supervisor.sock"))
    with pytest.raises(SupervisorError, match="no service runs on"):
        ask(tmp_path, "status", 1)
