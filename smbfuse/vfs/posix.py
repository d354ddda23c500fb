"""What the filesystem hands to whoever speaks with the kernel: plain values, no FUSE types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

ROOT_INO: Final = 1


class PosixStat(NamedTuple):
    """The attributes of one inode, as stat(2) wants them."""

    ino: int
    mode: int  # with the file type (S_IFMT)
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int  # bytes
    blocks: int  # units of 512 bytes
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


ABSENT: Final = PosixStat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Entry(NamedTuple):
    """A name's answer, and how long the kernel may keep it. `stat.ino` 0: there is no such name, to be kept as well."""

    stat: PosixStat
    generation: int
    entry_timeout_s: float
    attr_timeout_s: float


class Opened(NamedTuple):
    """An open file: `keep_cache` says that the pages the kernel still holds of it are true."""

    fh: int
    direct_io: bool
    keep_cache: bool


class Caller(NamedTuple):
    """Who makes a file: it shall be theirs, with the mode they asked for less their umask."""

    uid: int
    gid: int
    umask: int


class NewAttributes(NamedTuple):
    """What setattr shall change; None leaves it as it is. Times are nanoseconds since 1970, "now" already resolved."""

    size: int | None = None  # bytes
    mode: int | None = None  # permission bits
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Unsaved(NamedTuple):
    """Bytes that a program wrote, that were acknowledged, and that are not on the server."""

    path: str
    offset: int
    length: int
    reason: str


class Listed(NamedTuple):
    """One name of a folder. `next_cookie` is where a later `readdir` goes on behind it."""

    name: bytes
    entry: Entry
    next_cookie: int


class KernelCache(Protocol):
    """What the filesystem asks of the kernel's caches. Nothing here blocks the event loop, and nothing raises.

    The two `invalidate_…` only schedule.
    """

    def invalidate_inode(self, ino: int, attr_only: bool) -> None:
        """Drop the attributes of `ino`, and its pages unless `attr_only`."""
        ...

    def invalidate_entry(self, parent_ino: int, name: bytes) -> None:
        """Drop the answer given for `name` in `parent_ino`, a negative one too."""
        ...

    async def drop_pages(self, ino: int) -> None:
        """Drop the attributes and pages of `ino`, and return when that has happened.

        Pages that the kernel was to write (`cache=loose`) are written first: WRITE requests come meanwhile and must be
        answered. It may take as long as the kernel waits for an answer of ours: put a deadline around it, and serve the
        file uncached until it returns. Cancelling takes nothing back.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """A snapshot of the block cache."""

    size: int  # bytes that may be kept
    held: int  # bytes kept, backing buffers included
    pending: int  # bytes asked for and not yet here
    blocks: int
    hits: int  # reads answered from memory
    misses: int  # reads that waited for the server
    fetches: int  # blocks asked for, read ahead included
    ahead: int  # of these: read ahead
    evicted: int  # blocks


@dataclass(frozen=True, slots=True)
class SpeculationStatistics:
    """A snapshot of what was asked for before anybody asked."""

    listed: int  # folders listed because names of them were looked up one after the other
    answered: int  # lookups answered from a listing
    opened: int  # files opened ahead of need
    taken: int  # … that a program then opened
    held: int  # … that wait for one now
    folders: int  # folders listed ahead of programs that go from one to the next


@dataclass(frozen=True, slots=True)
class FilesystemStatistics:
    """A snapshot of the filesystem, for `smbfuse status`."""

    inodes: int
    open_files: int
    open_directories: int
    unsaved: int  # bytes that programs wrote and the server does not have yet
    absent_names: int  # names known not to be there
    attribute_hits: int  # lookups and getattrs answered from memory
    attribute_misses: int  # … that asked the server
    listing_hits: int
    listing_misses: int
    blocks: BlockStatistics
    speculation: SpeculationStatistics
    shares: Sequence[str]
