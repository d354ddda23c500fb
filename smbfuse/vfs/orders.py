"""The orders in which programs go through the names of a folder, forwards and backwards, and who follows one.

Three are known: the listing's (`tar`, `grep -r`), that of the names (shell patterns, `sorted`), and the counting one,
where a number in the name goes up by one. Backwards goes who keeps on a stack what he has listed (`rg`, `fd`). Several
threads that share the work overtake each other, by as many names as there are threads.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, Protocol

REACH: Final = 8  # names by which one may be overtaken and still be thought to follow an order
BELIEVED: Final = 4  # credits: two names that are each the very next one, or four that are near enough
_NUMBERED: Final = re.compile(rb"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


class Order(Protocol):
    """Names one behind the other."""

    def steps(self, start: bytes, end: bytes) -> int | None:
        """Return how many names further on `end` is, below 0 further back; None: the order does not lead there."""
        ...

    def at(self, start: bytes, steps: int) -> bytes | None:
        """Return the name so many steps further on; None: there is none."""
        ...


class Listed:
    """The order of a list, or of its names sorted. `names` are all different."""

    def __init__(self, names: Sequence[bytes], *, by_name: bool = False) -> None:
        self._names = names
        self._by_name = by_name
        self._positions: dict[bytes, int] = {}  # made, and the names sorted, when a second file is opened

    def steps(self, start: bytes, end: bytes) -> int | None:
        positions = self._known()
        return positions[end] - positions[start]

    def at(self, start: bytes, steps: int) -> bytes | None:
        position = self._known()[start] + steps
        return self._names[position] if 0 <= position < len(self._names) else None

    def _known(self) -> dict[bytes, int]:
        if not self._positions:
            if self._by_name:
                self._names = sorted(self._names)
            self._positions = {name: position for position, name in enumerate(self._names)}
        return self._positions


class Counted:
    """The order of the numbers in names that are otherwise alike, with or without leading zeros."""

    def __init__(self, names: Collection[bytes]) -> None:
        self._names = names

    def steps(self, start: bytes, end: bytes) -> int | None:
        first, last = _numbered(start), _numbered(end)
        if first is None or last is None or (first[0], first[2]) != (last[0], last[2]):
            return None
        return int(last[1]) - int(first[1])

    def at(self, start: bytes, steps: int) -> bytes | None:
        numbered = _numbered(start)
        if numbered is None or int(numbered[1]) + steps < 0:
            return None
        stem, digits, suffix = numbered
        for width in (len(digits), 1):
            name = b"%b%0*d%b" % (stem, width, int(digits) + steps, suffix)
            if name in self._names:
                return name
        return None


class Track:
    """One order in one direction, and how well a program follows it."""

    def __init__(self, order: Order, direction: int) -> None:
        self._order = order
        self._direction = direction  # 1: forwards, -1: backwards
        self._head: bytes | None = None  # the furthest name of those that followed
        self.credits = 0

    def ahead(self, start: bytes, end: bytes) -> int | None:
        """Return how far `end` is ahead of `start`, below 0 behind it; None: the order does not lead there."""
        steps = self._order.steps(start, end)
        return None if steps is None else steps * self._direction

    def after(self, name: bytes) -> bytes | None:
        """Return the name that follows."""
        return self._order.at(name, self._direction)

    def follow(self, name: bytes) -> None:
        """Hear that a file was opened. One that was overtaken counts neither for the order nor against it."""
        ahead = None if self._head is None else self.ahead(self._head, name)
        if ahead is None or abs(ahead) > REACH:
            self.begin(name)
        elif ahead > 0:
            self._head = name
            self.credits += 2 if ahead == 1 else 1

    def begin(self, name: bytes | None) -> None:
        """Begin to count anew, from a name."""
        self._head = name
        self.credits = 0


@lru_cache(64)
def _numbered(name: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return what stands before the last number of a name, its digits, and what stands behind."""
    numbered = _NUMBERED.fullmatch(name)
    return None if numbered is None else (numbered[1], numbered[2], numbered[3])
