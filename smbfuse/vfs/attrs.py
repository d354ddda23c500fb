"""What is known of a file, packed; how long it may be believed; which of two answers is the newer.

An answer is believed for a time counted from when its question was *sent*: what happened on the server afterwards may
be missing in it. And it is recorded only if nothing newer was learnt meanwhile: each question takes a number, and an
answer never replaces one whose question came later. So two lookups that overtake each other, or a listing that ends
after a stat, cannot bring old attributes back.

| `cache=` | a file's attributes | a folder's listing | pages in the kernel and blocks at open |
|---|---|---|---|
| strict | `acregmax` (1 s) | `acdirmax` (1 s) | kept if size, write time and change time are as they were |
| loose | 30 times as long | 30 times as long | the same |
| none | 0 | 0 | none are kept: every read asks the server |

Names, "not there" and a folder's attributes are believed for the shorter of the first two.
"""

import math
import operator
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

from smbfuse.config import Cache, CacheMode
from smbfuse.share import FileStat, Kind
from smbfuse.vfs.names import to_wtf8

LOOSE_FACTOR: Final = 30
ABSENT_NAMES_MAX: Final = 16_384  # names remembered as "not there": about 4 MiB

SIZE_MAX: Final = (1 << 63) - 1  # off_t
U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1
_SECOND: Final = 1_000_000_000


class Asked(NamedTuple):
    """A question's number and when it was sent (the event loop's clock).

    `at` below 0: its answer is not believed any more. -inf: we have changed what it speaks of; else somebody else has,
    and we were told so at -1 - `at`.
    """

    number: int
    at: float

    def told_since(self, asked: "Asked") -> bool:
        """Tell whether that somebody has changed it was told after `asked` was sent, whose answer may not know it."""
        return -math.inf < self.at < 0 and asked.at < -1 - self.at


class Lifetimes:
    """How long answers are believed, by `cache=`, `acregmax=` and `acdirmax=`; what the server may end early."""

    def __init__(self, cache: Cache) -> None:
        factor = {CacheMode.STRICT: 1, CacheMode.LOOSE: LOOSE_FACTOR, CacheMode.NONE: 0}[cache.mode]
        self.attributes_s = cache.attributes_s * factor
        self.listing_s = cache.directories_s * factor
        self.loose = cache.mode is CacheMode.LOOSE
        self.watched = cache.notify and max(self.attributes_s, self.listing_s) > 0
        # What a name stands for is told with its attributes, which are to be no older than promised either.
        self.names_s = min(self.attributes_s, self.listing_s)

    def left(self, asked_at: float, now: float) -> float:
        """Return for how many seconds a file's attributes asked for at `asked_at` are still good."""
        return min(max(0.0, asked_at + self.attributes_s - now), self.attributes_s) if asked_at >= 0 else 0.0

    def name_left(self, asked_at: float, now: float) -> float:
        """Return for how many seconds a name, or a folder's attributes, asked for at `asked_at` are still good."""
        return min(max(0.0, asked_at + self.names_s - now), self.names_s) if asked_at >= 0 else 0.0


class Version(NamedTuple):
    """What tells one content of a file from another, without reading it."""

    size: int
    written_ns: int | None
    changed_ns: int | None


def version(stat: FileStat) -> Version:
    """Return which content of the file `stat` speaks of."""
    return Version(stat.size, stat.written_ns, stat.changed_ns)


class Known(NamedTuple):
    """A record, decoded."""

    asked: Asked
    generation: int
    stat: FileStat
    name: str  # as the server spells it


# A record is one bytes object: this head, the optional fields that are present, the name. The head's times come first,
# so that freshness is told without decoding the rest. 51 bytes and, from a plain listing, 32 for the four times.
# Asked at, number, generation, present, kind, attributes, size, allocation, file id.
UNPACKED_MAX: Final = 8192  # records kept decoded, at some 700 bytes each
_HEAD: Final = Struct("<dQIHBIqqQ")
_TIME: Final = Struct("<dQ")
_PRESENT: Final = Struct("<H")
_PRESENT_OFFSET: Final = 20
_KIND_AND_SIZE: Final = Struct("<B4xq")
_KIND_OFFSET: Final = 22
# The optional fields in order, with their formats. Times are kept in their own unit of 100 ns, whose 64 bits reach
# beyond what nanoseconds in 64 bits could (year 2262).
_OPTIONAL: Final = "qqqqQIHIIII"


_KINDS: Final = tuple(Kind)


class _Shape(NamedTuple):
    """How the optional fields of a record lie, for one set of those that are present."""

    layout: Struct
    spread: Callable[[Sequence[int | None]], tuple[Any, ...]]  # what is unpacked and a None -> every field in order


@cache
def _shape(present: int) -> _Shape:
    """Return the shape of a set of fields, of which a mount meets three or four: each record is decoded by C alone."""
    bits = [bit for bit in range(len(_OPTIONAL)) if present >> bit & 1]
    places = [bits.index(bit) if bit in bits else -1 for bit in range(len(_OPTIONAL))]
    return _Shape(Struct("<" + "".join(_OPTIONAL[bit] for bit in bits)), operator.itemgetter(*places))


def pack(asked: Asked, generation: int, stat: FileStat, name: str) -> bytes:
    """Return all that is known of a file as one compact object, with wild values of a server brought into range."""
    try:
        if stat.size >= 0 <= stat.allocation:
            return _pack(asked, generation, stat, name)
    except struct.error:
        pass
    return _pack(asked, generation, _in_range(stat), name)


def _pack(asked: Asked, generation: int, stat: FileStat, name: str) -> bytes:
    kind, size, allocation, attributes, created, accessed, written, changed, file_id, *rest, device = stat
    optional = [time if time is None else time // 100 for time in (created, accessed, written, changed)]
    optional += (*rest, *(device or (None, None)))
    present, bit = 0, 1
    values = []
    for value in optional:
        if value is not None:
            present |= bit
            values.append(value)
        bit <<= 1
    head = _HEAD.pack(asked.at, asked.number, generation & U32, present, kind, attributes, size, allocation, file_id)
    return head + _shape(present).layout.pack(*values) + to_wtf8(name)


@lru_cache(UNPACKED_MAX)
def unpack(record: bytes) -> Known:
    """Return what `pack` put together. What is asked for again and again is decoded once."""
    at, number, generation, present, kind, attributes, size, allocation, file_id = _HEAD.unpack_from(record)
    layout, spread = _shape(present)
    created, accessed, written, changed, volume_id, links, mode, uid, gid, major, minor = spread(
        (*layout.unpack_from(record, _HEAD.size), None)
    )
    stat = FileStat(
        _KINDS[kind],
        size,
        allocation,
        attributes,
        None if created is None else created * 100,
        None if accessed is None else accessed * 100,
        None if written is None else written * 100,
        None if changed is None else changed * 100,
        file_id,
        volume_id,
        links,
        mode,
        uid,
        gid,
        None if major is None else (major, minor),
    )
    name = record[_HEAD.size + layout.size :].decode("utf-8", "surrogatepass")
    return Known(Asked(number, at), generation, stat, name)


def reasked(record: bytes, asked: Asked) -> bytes:
    """Return a record as if it had answered another question, without decoding the rest."""
    return _TIME.pack(asked.at, asked.number) + record[_TIME.size :]


def asked_of(record: bytes) -> Asked:
    """Return when a record was asked for, without decoding the rest."""
    at, number = _TIME.unpack_from(record)
    return Asked(number, at)


def kind_and_size(record: bytes) -> tuple[Kind, int]:
    """Return what a record is of and its size in bytes, without decoding the rest."""
    kind, size = _KIND_AND_SIZE.unpack_from(record, _KIND_OFFSET)
    return _KINDS[kind], size


def name_of(record: bytes) -> str:
    """Return the server's spelling of a record's name, without decoding the rest."""
    (present,) = _PRESENT.unpack_from(record, _PRESENT_OFFSET)
    return record[_HEAD.size + _shape(present).layout.size :].decode("utf-8", "surrogatepass")


def _in_range(stat: FileStat) -> FileStat:
    """Bring values into what a stat can hold, so that one odd file does not spoil its folder."""

    def within(value: int | None, low: int, high: int) -> int | None:
        return value if value is None else min(max(value, low), high)

    def time(value: int | None) -> int | None:
        return within(value, -100 * SIZE_MAX, 100 * SIZE_MAX)

    device = stat.device
    return stat._replace(
        size=min(max(stat.size, 0), SIZE_MAX),
        allocation=min(max(stat.allocation, 0), SIZE_MAX),
        attributes=stat.attributes & U32,
        created_ns=time(stat.created_ns),
        accessed_ns=time(stat.accessed_ns),
        written_ns=time(stat.written_ns),
        changed_ns=time(stat.changed_ns),
        file_id=stat.file_id & U64,
        volume_id=stat.volume_id if stat.volume_id is None else stat.volume_id & U64,
        links=within(stat.links, 0, U32),
        mode=stat.mode if stat.mode is None else stat.mode & 0o7777,
        uid=within(stat.uid, 0, U32 - 1),
        gid=within(stat.gid, 0, U32 - 1),
        device=None if device is None else (device[0] & 0xFFF, device[1] & 0xFFFFF),
    )


def refined(new: FileStat, old: FileStat) -> FileStat:
    """Return `new`, an answer about the same file as `old`, with the gaps of a poor answer filled from `old`.

    Not every answer tells everything: a listing no volume and no links; SMB_COM_OPEN_ANDX neither ids nor creation, and
    a write time in whole seconds [MS-CIFS 2.2.4.41.2].
    """
    written_ns = new.written_ns
    if new.created_ns is None and old.written_ns is not None and _same_second(written_ns, old.written_ns):
        written_ns = old.written_ns
    return FileStat(  # by position: by name it takes twice as long
        new.kind,
        new.size,
        new.allocation,
        new.attributes,
        old.created_ns if new.created_ns is None else new.created_ns,
        old.accessed_ns if new.accessed_ns is None else new.accessed_ns,
        old.written_ns if written_ns is None else written_ns,
        old.changed_ns if new.changed_ns is None else new.changed_ns,
        new.file_id or old.file_id,
        old.volume_id if new.volume_id is None else new.volume_id,
        old.links if new.links is None else new.links,
        old.mode if new.mode is None else new.mode,
        old.uid if new.uid is None else new.uid,
        old.gid if new.gid is None else new.gid,
        old.device if new.device is None else new.device,
    )


def _same_second(coarse_ns: int | None, exact_ns: int) -> bool:
    if coarse_ns is None or coarse_ns % _SECOND:
        return False
    # Servers cut to the second, or round up to the two seconds of a DOS time.
    return coarse_ns == exact_ns - exact_ns % _SECOND or coarse_ns == exact_ns + -exact_ns % (2 * _SECOND)


class AbsentNames:
    """Names that the server does not have, by folder and folded name, each spelling for itself.

    One spelling's absence does not prove another's: a server that is thought to ignore case may not (`case sensitive =
    yes`). What appears is taken from all of them.
    """

    def __init__(self, most: int = ABSENT_NAMES_MAX) -> None:
        self._most = most
        self._count = 0
        self._names: OrderedDict[tuple[int, str], dict[bytes, Asked]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def note(self, folder_ino: int, key: str, shown: bytes, asked: Asked) -> None:
        """Remember that the server said "no such name" to a question; `shown` is how the kernel spelt it."""
        spellings = self._names.setdefault((folder_ino, key), {})
        self._names.move_to_end((folder_ino, key))
        self._count += shown not in spellings
        spellings[shown] = asked
        while self._count > self._most:
            _, oldest = self._names.popitem(last=False)
            self._count -= len(oldest)

    def asked(self, folder_ino: int, key: str, shown: bytes) -> Asked | None:
        """Return when the name was last found missing; None: it is not known to be."""
        return self._names.get((folder_ino, key), _NO_SPELLINGS).get(shown)

    def appeared(self, folder_ino: int, key: str) -> set[bytes]:
        """Forget that the name is missing; return the spellings under which the kernel may still believe it."""
        missing = self._names.pop((folder_ino, key), None)
        if missing is None:
            return set()
        spellings = set(missing)
        self._count -= len(spellings)
        return spellings

    def folders(self) -> set[int]:
        """Return the folders in which names are known to be missing."""
        return {ino for ino, _ in self._names}

    def forget(self, folder_ino: int) -> list[tuple[str, set[bytes]]]:
        """Forget what is missing in a folder; return it, by key."""
        keys = [key for key in self._names if key[0] == folder_ino]
        return [(key[1], self.appeared(*key)) for key in keys]


_NO_SPELLINGS: Final[dict[bytes, Asked]] = {}
