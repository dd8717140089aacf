"""A network between a client and a server on loopback that can swallow what is sent."""

import contextlib
import selectors
import socket
import threading
from typing import Self

__all__ = ["Partition"]


class Partition:
    """Passes bytes on, until `begin`: then nothing more passes, and nobody is told.

    After `end`, new connections pass again; those of before stay dead without a word, as behind a
    router that has forgotten them.

    Attributes:
        port: Where it listens.
        is_cut: Whether nothing passes now.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._dead: list[socket.socket] = []
        self.is_cut = False
        self._lock = threading.RLock()
        self._trigger = b""
        self._passes_trigger = False
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="partition")

    def begin(self) -> None:
        """Swallow everything from now on; new connections are taken and get no answer."""
        with self._lock:
            self.is_cut = True
            for each in tuple(self._pairs):
                self._selector.unregister(each)
                self._dead.append(each)
            self._pairs.clear()

    def begin_at(self, trigger: bytes) -> None:
        """Do so as soon as somebody sends this, and swallow that too."""
        self._trigger, self._passes_trigger = trigger, False

    def begin_after(self, trigger: bytes) -> None:
        """Do so as soon as somebody sends this, but pass that on: the answer is lost."""
        self._trigger, self._passes_trigger = trigger, True

    def end(self) -> None:
        """Let new connections through."""
        with self._lock:
            self.is_cut = False

    def __enter__(self) -> Self:
        """Begin to pass bytes on."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self._stop.set()
        self._thread.join()
        for each in (self._listener, *self._pairs, *self._dead):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._pass_on(key.fileobj)  # type: ignore[arg-type]  # all are sockets

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.is_cut:
            self._dead.append(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        for each, other in ((client, server), (server, client)):
            self._pairs[each] = other
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, reader: socket.socket) -> None:
        writer = self._pairs.get(reader)
        if writer is None:
            return
        data = b""
        with contextlib.suppress(OSError):
            data = reader.recv(65_536)
            if self._trigger and self._trigger in data:
                self._trigger = b""
                if self._passes_trigger:
                    writer.sendall(data)
                self.begin()
                return
            writer.sendall(data)
        if not data:
            for each in (reader, writer):
                self._pairs.pop(each, None)
                self._selector.unregister(each)
                each.close()
