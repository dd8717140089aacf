"""Who calls, and what is true of the process: every attestor's findings, or none of them."""

import asyncio
from collections.abc import Mapping

from ca.selectors import InvalidSelectorError, parse_selector
from ca.workload import Findings, WorkloadAttestor
from meshwarden.agent.peers import Caller, PeerError
from meshwarden.agent.relay import Relay

__all__ = ["Attestation"]

_TIMEOUT_S = 15.0
_MAX_NOTE_CHARACTERS = 500


class Attestation:
    """Asks the attestors that the settings name."""

    def __init__(self, relay: Relay, attestors: Mapping[str, WorkloadAttestor]) -> None:
        """Ask these attestors.

        Args:
            relay: Knows the process behind each connection.
            attestors: By their names, for notes.
        """
        self._relay = relay
        self._attestors = attestors

    def caller(self, peer: str) -> Caller | None:
        """Give the process behind a gRPC call, by its `context.peer()`; None for none of ours."""
        return self._relay.caller(peer)

    async def attest(self, caller: Caller) -> Findings:
        """Find out what is true of a caller, now: a process may execute another program.

        Raises:
            PeerError: The process has ended. What was seen may be of another one by the same
                number, so it is not told.
        """
        found = await asyncio.gather(
            *(self._ask(name, each, caller) for name, each in self._attestors.items())
        )
        if not caller.is_alive():
            raise PeerError("the process that connected has ended")
        return Findings(
            frozenset().union(*(each.selectors for each in found)),
            tuple(note for each in found for note in each.notes),
        )

    async def _ask(self, name: str, attestor: WorkloadAttestor, caller: Caller) -> Findings:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = await attestor.attest(caller.peer)
        except TimeoutError:
            return Findings(notes=(f"{name}: no answer within {_TIMEOUT_S:.0f} s",))
        sound = _sound(found)
        return Findings(sound.selectors, tuple(f"{name}: {note}" for note in sound.notes))


def _sound(found: Findings) -> Findings:
    """Leave out what no entry can ask for: a program may be called anything, in any bytes.

    What is sent and told is text, and one workload's odd name must not spoil that of others.
    """
    selectors, notes = set(), [*found.notes]
    for each in found.selectors:
        try:
            parse_selector(str(each))
        except InvalidSelectorError as error:
            notes.append(f"left out: {error}")
        else:
            selectors.add(each)
    return Findings(frozenset(selectors), tuple(map(_printable, notes)))


def _printable(note: str) -> str:
    shown = note if note.isprintable() else ascii(note)[1:-1]
    return shown[:_MAX_NOTE_CHARACTERS]
