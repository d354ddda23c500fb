"""What a program will ask for next. Pure: told of what it asked for, it answers with what is worth having at hand.

The kernel hands over one lookup of a folder at a time, and opens one file after the other: who wants 2,000 small files
waits for 4,000 answers, unless somebody asks ahead of him. Both guesses are bounded, and both stop as soon as they
turn out wrong.
"""

import bisect
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

MISSES: Final = 3  # names asked for in a row before the whole folder is worth listing
MISSES_MAX: Final = 4096
MISSES_APART_S: Final = 2.0  # longest time between two of them
USEFUL: Final = 8  # lookups that a small listing must answer to have been worth its while
ENTRIES_A_LOOKUP: Final = 64  # entries that cost about as much as one lookup
FOLDERS: Final = 256  # watched for missed lookups at a time

SUCCESSORS: Final = 2  # files opened in an order, each right behind the one before, before the order is believed
FIRST_WINDOW: Final = 4  # files
LARGEST_WINDOW: Final = 32  # files
WINDOW_BYTES: Final = 1 << 20
NUMBERED: Final = re.compile(rb"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)


class _Missed:
    """The lookups of one folder that had to ask the server."""

    __slots__ = ("answered", "count", "last", "needed")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.needed = MISSES
        self.answered = 0  # lookups, by the last listing


class MissedLookups:
    """Tells when so many names of a folder are asked for that listing it is cheaper.

    Each listing doubles the misses that the next one needs, until it has answered enough lookups for its size: a few
    names looked up at random in a huge folder do not list it over and over.
    """

    def __init__(self) -> None:
        self._folders: OrderedDict[int, _Missed] = OrderedDict()

    def missed(self, folder_ino: int, now: float) -> bool:
        """Note a name that the server had to be asked for; True: list the folder now."""
        missed = self._folders.get(folder_ino)
        if missed is None:
            missed = self._folders[folder_ino] = _Missed()
            if len(self._folders) > FOLDERS:
                self._folders.popitem(last=False)
        self._folders.move_to_end(folder_ino)
        missed.count = missed.count + 1 if now - missed.last <= MISSES_APART_S else 1
        missed.last = now
        if missed.count < missed.needed:
            return False
        missed.count = missed.answered = 0
        missed.needed = min(2 * missed.needed, MISSES_MAX)
        return True

    def answered(self, folder_ino: int, entries: int) -> None:
        """Note a lookup that was answered by the folder's listing of so many entries."""
        missed = self._folders.get(folder_ino)
        if missed is not None:
            missed.answered += 1
            if missed.answered >= USEFUL + entries // ENTRIES_A_LOOKUP:
                missed.needed = MISSES


class Siblings:
    """The small files of one folder, and in which order a program opens them.

    Three orders are recognised: the listing's (`tar`, `grep -r`), that of the names (shell patterns, `sorted`), and
    the counting one, where a number in the name goes up by one. `files` gives name and size; `lifetime_s` is how long
    what was opened ahead may be used: whoever is too slow for that is not run ahead of.
    """

    def __init__(self, files: Sequence[tuple[bytes, int]], lifetime_s: float) -> None:
        self._names = [name for name, _ in files]
        self._sizes = dict(files)
        self._lifetime_s = lifetime_s
        self._sorted: list[bytes] = []  # made when a second file is opened, like the next
        self._positions: dict[bytes, int] = {}
        self._orders = (self._listed_after, self._sorted_after, self._counted_after)
        self._kept = [0] * len(self._orders)  # successors in a row, for each order
        self._order: Callable[[bytes], bytes | None] | None = None  # the one that is believed
        self._last: bytes | None = None
        self._last_at = 0.0
        self._pace_s = 0.0  # between two opens
        self._window = 0
        self._head = b""  # the last name advised
        self._ahead: dict[bytes, int] = {}  # advised and not opened yet, with their sizes

    @property
    def running(self) -> bool:
        """Whether an order has been recognised and still holds."""
        return self._order is not None

    def opened(self, name: bytes, now: float, room: Callable[[], int]) -> Sequence[bytes]:
        """Note that a file was opened; return at most `room()` others to open ahead, the next one first.

        Not `running` afterwards: the guess was wrong, if there was one, and what was advised is not worth keeping.
        """
        if name not in self._sizes or name == self._last:
            return ()  # not one of those that are opened ahead: it says nothing; or opened twice
        elapsed_s = now - self._last_at
        last, self._last, self._last_at = self._last, name, now
        if last is None:
            return ()
        if elapsed_s > self._lifetime_s / 2:
            self._stop()
            return ()
        self._pace_s = (3 * self._pace_s + elapsed_s) / 4
        if self._order is not None:
            if self._ahead.pop(name, None) is not None:
                return self._advise(room()) if 2 * len(self._ahead) <= self._window else ()
            if self._order(self._head) == name:  # all advised were opened, and there was no room for more
                self._head = name
                return self._advise(room())
            self._stop()
        for number, after in enumerate(self._orders):
            self._kept[number] = self._kept[number] + 1 if after(last) == name else 0
        if max(self._kept) < SUCCESSORS:
            return ()
        self._order = self._orders[self._kept.index(max(self._kept))]
        self._head = name
        return self._advise(room())

    def _advise(self, room: int) -> Sequence[bytes]:
        """Fill the window ahead, which doubles each time, as far as it can be used in time."""
        assert self._order is not None
        usable = self._lifetime_s / 2 / self._pace_s if self._pace_s else LARGEST_WINDOW
        self._window = int(min(2 * self._window or FIRST_WINDOW, LARGEST_WINDOW, usable))
        advised: list[bytes] = []
        pending = sum(self._ahead.values())
        while len(advised) < room and len(self._ahead) < self._window:
            name = self._order(self._head)
            if name is None or pending + self._sizes[name] > WINDOW_BYTES:
                break
            self._head = name
            self._ahead[name] = self._sizes[name]
            pending += self._sizes[name]
            advised.append(name)
        return advised

    def _stop(self) -> None:
        self._order = None
        self._kept = [0] * len(self._orders)
        self._window = 0
        self._pace_s = 0.0
        self._ahead.clear()

    # -- the orders: each returns the small file behind a name

    def _listed_after(self, name: bytes) -> bytes | None:
        if not self._positions:
            self._positions = {name: position for position, name in enumerate(self._names)}
        behind = self._positions[name] + 1
        return self._names[behind] if behind < len(self._names) else None

    def _sorted_after(self, name: bytes) -> bytes | None:
        if not self._sorted:
            self._sorted = sorted(self._names)
        behind = bisect.bisect_right(self._sorted, name)
        return self._sorted[behind] if behind < len(self._sorted) else None

    def _counted_after(self, name: bytes) -> bytes | None:
        numbered = NUMBERED.fullmatch(name)
        if numbered is None:
            return None
        stem, number, suffix = numbered.groups()
        after = b"%b%0*d%b" % (stem, len(number), int(number) + 1, suffix)
        return after if after in self._sizes else None
