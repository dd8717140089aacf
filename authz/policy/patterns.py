"""An index over the distinct patterns that rules hold in one field."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from authz.policy.errors import ExpressionError
from authz.policy.functions.addresses import address
from authz.policy.functions.spec import Pattern
from authz.policy.segment_tree import SegmentTree
from authz.policy.shapes import Shapes

__all__ = ["PatternIndex", "Unsure"]

Key = TypeVar("Key")

# Patterns that no index can tell apart are tried one by one, if they are few. If they are more,
# they are left for the other fields of a rule to choose from; if many more, not even told apart.
_MAX_TRIED = 4
_MAX_UNSURE = 1024


class Unsure(frozenset[str]):
    """Patterns that may match: no others do, but each is still to be asked."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class PatternIndex:
    """The distinct patterns of one function in one field.

    Attributes:
        prepare: Makes a Pattern of its text.
    """

    prepare: Callable[[str], Pattern]
    _literals: dict[str, list[str]] = field(default_factory=dict)
    _always: list[str] = field(default_factory=list)
    _segments: SegmentTree | None = None
    _shapes: Shapes[list[str]] | None = None
    _prefixes: dict[str, list[str]] = field(default_factory=dict)
    _lengths: dict[int, int] = field(default_factory=dict)
    _networks: dict[tuple[int, int], dict[int, list[str]]] = field(default_factory=dict)
    _others: list[str] = field(default_factory=list)
    _rare: bool = False
    # Patterns that are none; the server refuses them, pycasbin raises once they are reached.
    _broken: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Take in a pattern that is not in yet."""
        try:
            pattern = self.prepare(text)
        except ExpressionError:
            self._broken.append(text)
            self._rare = True
            return
        if pattern.always:
            self._always.append(text)
        elif pattern.literals is not None:
            for literal in pattern.literals:
                self._literals.setdefault(literal, []).append(text)
        elif pattern.segments is not None:
            if self._segments is None:
                self._segments = SegmentTree()
            self._segments.add(pattern.segments, text)
        elif pattern.shape is not None:
            if self._shapes is None:
                self._shapes = Shapes()
            texts = self._shapes.get(pattern.shape)
            if texts is None:
                self._shapes.add(pattern.shape, [text])
            else:
                texts.append(text)
        else:
            self._rare = True
            self._add_rare(pattern, text)

    def _add_rare(self, pattern: Pattern, text: str) -> None:
        if pattern.network is not None:
            network = pattern.network
            table = self._networks.setdefault((network.version, network.prefixlen), {})
            table.setdefault(int(network.network_address), []).append(text)
        elif pattern.prefix:
            self._prefixes.setdefault(pattern.prefix, []).append(text)
            length = len(pattern.prefix)
            self._lengths[length] = self._lengths.get(length, 0) + 1
        else:
            self._others.append(text)

    def discard(self, text: str) -> None:
        """Take out a pattern that is in."""
        if text in self._broken:
            self._broken.remove(text)
            return
        pattern = self.prepare(text)
        if pattern.always:
            self._always.remove(text)
        elif pattern.literals is not None:
            for literal in pattern.literals:
                _drop(self._literals, literal, text)
        elif pattern.segments is not None and self._segments is not None:
            self._segments.discard(pattern.segments, text)
        elif pattern.shape is not None and self._shapes is not None:
            texts = self._shapes.get(pattern.shape) or []
            texts.remove(text)
            if not texts:
                self._shapes.discard(pattern.shape)
        else:
            self._discard_rare(pattern, text)

    def _discard_rare(self, pattern: Pattern, text: str) -> None:
        if pattern.network is not None:
            network = pattern.network
            key = (network.version, network.prefixlen)
            _drop(self._networks[key], int(network.network_address), text)
            if not self._networks[key]:
                del self._networks[key]
        elif pattern.prefix:
            _drop(self._prefixes, pattern.prefix, text)
            length = len(pattern.prefix)
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]
        else:
            self._others.remove(text)

    @property
    def tried(self) -> int:
        """How many patterns have to be tried one by one."""
        return len(self._others)

    @property
    def kind(self) -> str:
        """What the patterns are filed by, in words."""
        kinds = {
            "hash": self._literals or self._always,
            "segment tree": self._segments,
            "shapes": self._shapes,
            "networks": self._networks,
            "prefixes": self._prefixes,
            "tried": self._others or self._broken,
        }
        return "+".join([kind for kind, table in kinds.items() if table]) or "patterns"

    def find(self, value: str) -> list[str] | Unsure | None:
        """The patterns that match a value; those that may, or None for any, if they are many.

        Raises:
            Exception: What a pattern raises on a value it can't judge.
        """
        found = [*self._always] if self._always else []
        literal = self._literals.get(value)
        if literal is not None:
            found += literal
        if self._segments is not None:
            if not value or "\n" in value:
                found += self._proposed(self._segments, value)
            else:
                self._segments.find(value, found)
        if self._shapes is not None and value:
            for texts in self._shapes.find(value):
                found += texts
        if self._rare:
            return self._find_rare(value, found)
        return found

    def fitting(self, value: str) -> list[str]:
        """Exactly the patterns that match; one that can't judge the value has not matched it.

        Raises:
            UnicodeError: The value is no text that could be sent to anybody.
        """
        found = [*self._always, *self._literals.get(value, ())]
        if self._segments is not None:
            if not value or "\n" in value:
                found += self._proposed(self._segments, value)
            else:
                self._segments.find(value, found)
        if self._shapes is not None and value:
            for texts in self._shapes.find(value):
                found += texts
        if self._networks:
            with contextlib.suppress(ValueError):
                self._find_networks(address(value), found)
        tried = [*self._others, *self._starting(value, found)]
        found += [text for text in tried if self._matches(text, value)]
        return found

    def _proposed(self, tree: SegmentTree, value: str) -> list[str]:
        """The patterns of segments that match an empty value, or one with a newline.

        Casbin's regular expressions have opinions on newlines, and the mesh family on nothing at
        all; the tree has none, so it only proposes.
        """
        near: list[str] = []
        tree.find(value, near)
        if value[-1:] == "\n":
            tree.find(value[:-1], near)
        return [text for text in near if self._matches(text, value)]

    def _find_rare(self, value: str, found: list[str]) -> list[str] | Unsure | None:
        """Go on with what is not a literal nor made of segments."""
        if self._broken:
            return None
        if self._networks:
            self._find_networks(address(value), found)
        tried = self._others
        if self._prefixes:
            tried = [*tried, *self._starting(value, found)]
        if tried:
            if len(tried) > _MAX_UNSURE:
                return None
            if len(tried) > _MAX_TRIED:
                return Unsure((*found, *tried))
            found += [text for text in tried if self._matches(text, value)]
        return found

    def _matches(self, text: str, value: str) -> bool:
        return self.prepare(text).matches(value)

    def _starting(self, value: str, found: list[str]) -> list[str]:
        """Those whose prefix the value has: to `found` if that says it all, else to be tried."""
        tried: list[str] = []
        size = len(value)
        for length in self._lengths:
            if length <= size:
                texts = self._prefixes.get(value[:length])
                if texts is not None:
                    for text in texts:
                        (found if self.prepare(text).exact else tried).append(text)
        return tried

    def _find_networks(self, value: IPv4Address | IPv6Address, found: list[str]) -> None:
        number, version, bits = int(value), value.version, value.max_prefixlen
        for (of_version, length), table in self._networks.items():
            if of_version == version:
                shift = bits - length
                texts = table.get(number >> shift << shift)
                if texts is not None:
                    found += texts


def _drop(table: dict[Key, list[str]], key: Key, text: str) -> None:
    texts = table[key]
    texts.remove(text)
    if not texts:
        del table[key]
