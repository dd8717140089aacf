"""A program that the supervisor takes for a front's Envoy, to be run: tests/fakes/envoy_program.py.

It knows the options that we give to Envoy, writes the status of the Python inside, answers on the
admin socket and ends its parent as a hot restart does. A file `fate` in the runtime directory, by
the process's serial number, says how one comes to grief: "dies" before it is ready, or "hangs".
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from meshwarden import status
from meshwarden.files import EPOCH_VARIABLE, NAME_VARIABLE, RUNTIME_VARIABLE

LEAVES_S = 0.3


class Envoy:
    """One process."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        for option in ("config-path", "base-id", "restart-epoch", "socket-path", "mode"):
            parser.add_argument(f"--{option}")
        options, _ = parser.parse_known_args()
        told = json.loads(Path(options.config_path).read_text())
        self.admin = told["admin"]["address"]["pipe"]["path"]
        self.runtime = Path(os.environ[RUNTIME_VARIABLE])
        self.name = os.environ[NAME_VARIABLE]
        self.serial = int(os.environ[EPOCH_VARIABLE])
        if options.mode == "validate":
            self.rehearse()
        self.epoch = int(options.restart_epoch)
        self.parent = self.runtime / f"pid.{options.base_id}.{self.epoch - 1}"
        (self.runtime / f"pid.{options.base_id}.{self.epoch}").write_text(str(os.getpid()))
        stem = int(options.base_id) * 10
        Path(f"{options.socket_path}_parent_{stem + self.epoch % 3}").touch()
        Path(f"/dev/shm/envoy_shared_memory_{stem}").touch()
        self.connections = 0

    def rehearse(self) -> NoReturn:
        """Come to the same grief as a start would, or to a good end."""
        match self.fate():
            case "dies":
                sys.exit(3)
            case "hangs":
                time.sleep(3600)
        sys.exit(0)

    def fate(self) -> str:
        """How this one comes to grief; "" when it doesn't."""
        with contextlib.suppress(FileNotFoundError):
            fates: dict[str, str] = json.loads((self.runtime / "fate").read_text())
            return fates.get(str(self.serial), "")
        return ""

    async def run(self) -> None:
        """Serve until told to end."""
        fate = self.fate()
        if fate == "dies":
            sys.exit(3)
        if fate == "hangs":
            await asyncio.sleep(3600)
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        # An heir takes the admin interface first.
        server = await asyncio.start_unix_server(self.answer, self.admin)
        status.write(
            self.runtime,
            status.ProcessStatus(
                "front", self.name, os.getpid(), self.serial, time.time_ns(), "d", 1, ready=True
            ),
        )
        if self.epoch:
            loop.call_later(LEAVES_S, self.end_parent)
        await over.wait()
        server.close()

    def end_parent(self) -> None:
        """As at the end of --parent-shutdown-time-s."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self.parent.read_text()), signal.SIGTERM)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one admin call, and write down which it was."""
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        with (self.runtime / f"asked.{self.serial}").open("a") as asked:
            asked.write(path + "\n")
        body = b"LIVE\n" if path == "/ready" else b"http.public.downstream_cx_active: 0\n"
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(Envoy().run())
