"""What a program will ask for next. Pure: told of what it asked for, it answers with what is worth having at hand.

The kernel hands over one lookup of a folder at a time, and opens one file after the other: who wants 2,000 small files
waits for 4,000 answers, unless somebody asks ahead of him. Both guesses are bounded, and both stop as soon as they
turn out wrong.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

from smbfuse.vfs.orders import BELIEVED, REACH, Counted, Listed, Track

MISSES: Final = 3  # names asked for in a row before the whole folder is worth listing
MISSES_MAX: Final = 4096
MISSES_APART_S: Final = 2.0  # longest time between two of them
USEFUL: Final = 8  # lookups that a small listing must answer to have been worth its while
ENTRIES_A_LOOKUP: Final = 64  # entries that cost about as much as one lookup
FOLDERS: Final = 256  # watched for missed lookups at a time

FIRST_WINDOW: Final = 4  # files
LARGEST_WINDOW: Final = 32  # files
WINDOW_BYTES: Final = 1 << 20


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
    """The small files of one folder, and in which of the `orders` a program opens them.

    `files` gives name and size; `lifetime_s` is how long what was opened ahead may be used: whoever is too slow for
    that is not run ahead of.
    """

    def __init__(self, files: Sequence[tuple[bytes, int]], lifetime_s: float) -> None:
        names = [name for name, _ in files]
        self._sizes = dict(files)
        self._lifetime_s = lifetime_s
        orders = (Listed(names), Listed(names, by_name=True), Counted(self._sizes))
        self._tracks = [Track(order, direction) for direction in (1, -1) for order in orders]
        self._track: Track | None = None  # the one that is believed
        self._recent: deque[bytes] = deque(maxlen=REACH)  # opened last
        self._strays = 0  # opened since the last that was advised
        self._last_at = 0.0
        self._pace_s = 0.0  # between two opens
        self._window = 0
        self._head = b""  # the last name advised
        self._ahead: dict[bytes, int] = {}  # advised and not opened yet, with their sizes

    @property
    def running(self) -> bool:
        """Whether an order has been recognised and still holds."""
        return self._track is not None

    def opened(self, name: bytes, now: float, room: Callable[[], int]) -> Sequence[bytes]:
        """Note that a file was opened; return at most `room()` others to open ahead, the next one first.

        Not `running` afterwards: the guess was wrong, if there was one, and what was advised is not worth keeping.
        """
        if name not in self._sizes or (self._recent and name == self._recent[-1]):
            return ()  # not one of those that are opened ahead: it says nothing; or opened twice
        elapsed_s = now - self._last_at
        is_first, self._last_at = not self._recent, now
        self._recent.append(name)
        if is_first or elapsed_s > self._lifetime_s / 2:
            self._stop(name)
            return ()
        self._pace_s = (3 * self._pace_s + elapsed_s) / 4
        if self._track is not None:
            if name in self._ahead:
                self._came(name)
                return self._advise(self._track, room()) if 2 * len(self._ahead) <= self._window else ()
            ahead = self._track.ahead(self._head, name)
            if ahead is not None and 0 < ahead <= REACH:  # there was no room to advise it
                self._head = name
                return self._advise(self._track, room())
            self._strays += 1
            if ahead is not None and -LARGEST_WINDOW - REACH <= ahead <= 0 and self._strays <= REACH:
                return ()  # it was overtaken before anything was advised
            self._stop(None)
        for track in self._tracks:
            track.follow(name)
        best = max(self._tracks, key=lambda track: track.credits)
        if best.credits < BELIEVED:
            return ()
        self._track, self._head, self._strays = best, name, 0
        return self._advise(best, room())

    def _came(self, name: bytes) -> None:
        """Note that one was opened that had been advised, and give up those that it has overtaken by far."""
        overtaken = list(itertools.takewhile(lambda other: other != name, self._ahead))
        for other in (*overtaken[:-REACH], name):
            del self._ahead[other]
        self._strays = 0

    def _advise(self, track: Track, room: int) -> Sequence[bytes]:
        """Fill the window ahead, which doubles each time, as far as it can be used in time."""
        usable = self._lifetime_s / 2 / self._pace_s if self._pace_s else LARGEST_WINDOW
        self._window = int(min(2 * self._window or FIRST_WINDOW, LARGEST_WINDOW, usable))
        advised: list[bytes] = []
        pending = sum(self._ahead.values())
        while len(advised) < room and len(self._ahead) < self._window:
            name = track.after(self._head)
            if name is None or pending + self._sizes[name] > WINDOW_BYTES:
                break
            self._head = name
            if name in self._recent:
                continue
            self._ahead[name] = self._sizes[name]
            pending += self._sizes[name]
            advised.append(name)
        return advised

    def _stop(self, name: bytes | None) -> None:
        self._track = None
        for track in self._tracks:
            track.begin(name)
        self._window = 0
        self._pace_s = 0.0
        self._ahead.clear()
