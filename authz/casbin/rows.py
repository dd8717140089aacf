"""A policy list that is found in by hash and tells what changed.

pycasbin keeps each definition's rules in a plain list, looks for one by scanning it, and hands the
list to whoever asks. This one is still a list for all of them; it also gives every row a place in
an order that outlives the shifting of positions, and a log of changes that an engine follows.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self, SupportsIndex

from typing_extensions import override

__all__ = ["Change", "Rows"]

# Between two neighbours there is room for so many halvings before all places are given anew.
_GAP = 1 << 32
# A log longer than this, and than the list, says less than the list itself does.
_LOG_MIN = 256
_END = object()


class Change(NamedTuple):
    """One row that came or went.

    Attributes:
        place: Where in the order; unique in the list, and kept for as long as the row is there.
        row: The row as it came; None when it went.
    """

    place: int
    row: Any


class Rows(list[Any]):
    """The rows of one definition, in order.

    Mutating calls that nobody makes on a large policy (sort, slices) forget the index, which is
    then made again when it is needed; append, insert, remove and replacing one row keep it.

    Attributes:
        version: Counts up with every change.
        lineage: The same for a list and the one that was put in its place; see successor().
    """

    __slots__ = ("_log", "_log_start", "_places", "_where", "lineage", "version")

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        super().__init__(rows)
        self.lineage = object()
        self._forget()
        self.version = 0
        self._log_start = 0

    def _forget(self) -> None:
        """Drop what is derived from the rows, for a change that is not followed."""
        self._places: list[int] | None = None
        self._where: dict[Any, list[int] | int] | None = None
        self._log: list[Change] | None = None
        self.version = getattr(self, "version", 0) + 1
        self._log_start = self.version

    # Places: ascending numbers, one for each row; made when first asked for.

    @property
    def places(self) -> list[int]:
        """The place of each row, ascending; read only."""
        places = self._places
        if places is None:
            places = self._places = list(range(0, len(self) * _GAP, _GAP))
        return places

    def follow(self) -> int:
        """Begin to log changes; returns the version to ask for changes since."""
        if self._log is None:
            self._log = []
            self._log_start = self.version
        return self.version

    def since(self, version: int) -> list[Change] | None:
        """What changed after a version, oldest first; None when only the whole list can tell."""
        log = self._log
        if log is None or version < self._log_start:
            return None
        return log[version - self._log_start :]

    def _note(self, place: int, row: Any) -> None:
        self.version += 1
        log = self._log
        if log is not None:
            log.append(Change(place, row))
            if len(log) > _LOG_MIN and len(log) > len(self):
                log.clear()
                self._log_start = self.version

    def successor(self, rows: list[Any]) -> "Rows":
        """The watched list for what is put in the place of this one.

        pycasbin removes rules by a filter in making a list of the others. Such a list goes on with
        the places, the index and the log of this one, which loses them.

        Cost: O(rows).
        """
        new = Rows(rows)
        if self._log is None or not len(self) // 2 < len(rows) <= len(self):
            return new
        left = iter(rows)
        expected = next(left)
        kept: list[int] = []
        gone: list[tuple[int, Any]] = []
        for place, row in zip(self.places, self, strict=True):
            if row is expected:
                kept.append(place)
                expected = next(left, _END)
            else:
                gone.append((place, row))
        if expected is not _END:
            return new
        for place, row in gone:
            self._unlearn(row, place)
        new._places, new._where = kept, self._where
        new.lineage, new.version, new._log_start = self.lineage, self.version, self._log_start
        new._log = self._log
        self.lineage = object()
        self._forget()
        for place, _ in gone:
            new._note(place, None)
        return new

    # Finding: the rows by their words.

    def _index(self) -> dict[Any, list[int] | int] | None:
        """Places by words; None where a row can't be hashed."""
        if self._where is None:
            where: dict[Any, list[int] | int] = {}
            try:
                for place, row in zip(self.places, self, strict=True):
                    _put(where, _key(row), place)
            except TypeError:
                return None
            self._where = where
        return self._where

    @override
    def __contains__(self, row: object) -> bool:
        where = self._index()
        if where is None:
            return super().__contains__(row)
        try:
            return _key(row) in where
        except TypeError:
            return super().__contains__(row)

    @override
    def index(self, row: Any, *bounds: SupportsIndex) -> int:
        """Position of the first row equal to this one; see list.index."""
        where = self._index()
        if where is None or bounds:
            return super().index(row, *bounds)
        try:
            found = where.get(_key(row))
        except TypeError:
            return super().index(row)
        if found is None:
            raise ValueError(f"{row!r} is not in the policy")
        return bisect_left(self.places, found if isinstance(found, int) else min(found))

    @override
    def count(self, row: Any) -> int:
        """How many rows are equal to this one."""
        where = self._index()
        if where is None:
            return super().count(row)
        try:
            found = where.get(_key(row), [])
        except TypeError:
            return super().count(row)
        return 1 if isinstance(found, int) else len(found)

    # Changing, one row at a time.

    @override
    def append(self, row: Any) -> None:
        """Add a row at the end."""
        if self._places is None and self._log is None:
            super().append(row)
            self.version += 1
            return
        places = self.places
        place = places[-1] + _GAP if places else 0
        super().append(row)
        places.append(place)
        self._learn(row, place)
        self._note(place, row)

    @override
    def insert(self, position: SupportsIndex, row: Any) -> None:
        """Add a row before a position."""
        places = self.places
        at = position.__index__()
        at = max(len(self) + at, 0) if at < 0 else min(at, len(self))
        if at == len(self):
            self.append(row)
            return
        before = places[at - 1] if at else places[0] - 2 * _GAP
        place = (before + places[at]) // 2
        super().insert(at, row)
        if place == before:
            self._forget()
            return
        places.insert(at, place)
        self._learn(row, place)
        self._note(place, row)

    def add_ordered(self, row: Any, rank: Callable[[Any], Any]) -> None:
        """Insert a row behind all that rank no higher; the rows stand in that order already."""
        self.insert(bisect_right(self, rank(row), key=rank), row)

    @override
    def remove(self, row: Any) -> None:
        """Remove the first row equal to this one."""
        del self[self.index(row)]

    @override
    def pop(self, position: SupportsIndex = -1) -> Any:
        """Remove and return the row at a position."""
        row = self[position]
        del self[position]
        return row

    @override
    def __delitem__(self, position: SupportsIndex | slice) -> None:
        if isinstance(position, slice):
            super().__delitem__(position)
            self._forget()
            return
        at = position.__index__()
        row = self[at]
        places = self.places
        super().__delitem__(at)
        place = places.pop(at)
        self._unlearn(row, place)
        self._note(place, None)

    @override
    def __setitem__(self, position: Any, row: Any) -> None:
        if isinstance(position, slice):
            super().__setitem__(position, row)
            self._forget()
            return
        at = position.__index__()
        was = self[at]
        place = self.places[at]
        super().__setitem__(at, row)
        self._unlearn(was, place)
        self._learn(row, place)
        self._note(place, None)
        self._note(place, row)

    def _learn(self, row: Any, place: int) -> None:
        if self._where is not None:
            try:
                _put(self._where, _key(row), place)
            except TypeError:
                self._where = None

    def _unlearn(self, row: Any, place: int) -> None:
        where = self._where
        if where is None:
            return
        try:
            key = _key(row)
        except TypeError:
            self._where = None
            return
        found = where.get(key)
        if found == place:
            del where[key]
        elif isinstance(found, list) and place in found:
            found.remove(place)
            if not found:
                del where[key]
        else:
            # Somebody has changed the row itself: what it was is not known any more.
            self._where = None

    # Changing many: the index is made again.

    @override
    def extend(self, rows: Iterable[Any]) -> None:
        """Add rows at the end."""
        for row in rows:
            self.append(row)

    @override
    def __iadd__(self, rows: Iterable[Any]) -> Self:
        self.extend(rows)
        return self

    @override
    def __imul__(self, times: SupportsIndex) -> Self:
        super().__imul__(times)
        self._forget()
        return self

    @override
    def clear(self) -> None:
        """Remove every row."""
        super().clear()
        self._forget()

    @override
    def reverse(self) -> None:
        """Turn the order round."""
        super().reverse()
        self._forget()

    @override
    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort; see list.sort."""
        super().sort(key=key, reverse=reverse)
        self._forget()

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return Rows, (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Rows":
        """Copy the rows too; their words are text, or taken as if they were."""
        copied = memo[id(self)] = Rows([row.copy() if type(row) is list else row for row in self])
        return copied


def _key(row: Any) -> Any:
    """What two rows share exactly if they are equal; raises TypeError for what can't be hashed."""
    if isinstance(row, list):
        key = tuple(row)
        hash(key)
        return key
    hash(row)
    # No list equals a tuple; a kind of its own keeps them apart.
    return (_key, row)


def _put(where: dict[Any, list[int] | int], key: Any, place: int) -> None:
    found = where.setdefault(key, place)
    if isinstance(found, list):
        found.append(place)
    elif found != place:
        where[key] = [found, place]
