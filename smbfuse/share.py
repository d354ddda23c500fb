"""The waist of the hourglass: what the filesystem knows of a share, and all that it knows.

Above it: POSIX, caches, the kernel. Below it: SMB, sessions, sockets. Neither side imports the other. One call is one
request or one compound; nothing is cached here. A path is a `str` of the server's own name components joined by '/',
'' for the root of the share; components hold no '/' and may hold unpaired surrogates.

Every call may raise `SmbError`; the classes of `errors.py` say what can be done about it.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Kind(enum.IntEnum):
    """What a name stands for, as POSIX sees it."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    FIFO = 3
    SOCKET = 4
    BLOCK_DEVICE = 5
    CHARACTER_DEVICE = 6


class Attributes(enum.IntFlag, boundary=enum.KEEP):
    """DOS attributes of a file.  [MS-FSCC] 2.6."""

    READONLY = 0x1
    HIDDEN = 0x2
    SYSTEM = 0x4
    DIRECTORY = 0x10
    ARCHIVE = 0x20
    NORMAL = 0x80
    SPARSE = 0x200
    REPARSE_POINT = 0x400
    OFFLINE = 0x1000


class FileStat(NamedTuple):
    """What the server says of a file. Times are nanoseconds since 1970 (100 ns steps), may be negative.

    A time of 0 from the server ("not known") is given as `None` here: the filesystem shows another time instead.
    """

    kind: Kind
    size: int  # bytes
    allocation: int  # bytes on disk
    attributes: int  # see `Attributes`
    created_ns: int | None
    accessed_ns: int | None
    written_ns: int | None
    changed_ns: int | None
    file_id: int = 0  # unique on its volume; 0: the server gives none
    volume_id: int | None = None  # which volume `file_id` speaks of; None: not said (a listing never says)
    links: int | None = None  # hard links; None: not said
    mode: int | None = None  # POSIX permission bits, only with UNIX or POSIX extensions
    uid: int | None = None
    gid: int | None = None
    device: tuple[int, int] | None = None  # major and minor of a device node


def creation_differs(before: FileStat, after: FileStat) -> bool:
    """Tell whether the creation times of two answers speak of two files.

    Samba keeps no creation time for files that were made on the server itself: it gives the earliest of the other
    three, which moves when the file is read or written. Such a time proves nothing either way.
    """
    if before.created_ns is None or after.created_ns is None or before.created_ns == after.created_ns:
        return False
    return not (_creation_is_derived(before) and _creation_is_derived(after))


def _creation_is_derived(stat: FileStat) -> bool:
    others = (stat.accessed_ns, stat.written_ns, stat.changed_ns)
    return stat.created_ns == min((time for time in others if time is not None), default=None)


class DirEntry(NamedTuple):
    """One name of a listing, as the server spells it, with its attributes."""

    name: str
    stat: FileStat


class Space(NamedTuple):
    """Room on the server's volume, in bytes; `available` is what this user may still take."""

    total: int
    free: int
    available: int
    block_size: int
    name_max: int = 255  # characters in one name


class Features(enum.Flag):
    """What a share can do beyond the common ground; asked before, so that nothing fails by surprise."""

    NONE = 0
    LEASES = enum.auto()
    DURABLE = enum.auto()
    COMPOUND = enum.auto()
    NOTIFY = enum.auto()
    POSIX = enum.auto()  # modes, owners and links are the server's own
    STREAMS = enum.auto()
    SYMLINKS = enum.auto()
    CASE_SENSITIVE = enum.auto()


class Caching(enum.Flag):
    """What the server allows to keep: the grant of a lease or an oplock."""

    NONE = 0
    READ = enum.auto()
    WRITE = enum.auto()
    HANDLE = enum.auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and numbers in force on a share. They may change with a reconnect."""

    read: int  # largest single read, bytes
    write: int
    transact: int  # largest listing page, bytes
    in_flight: int  # requests under way at once


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """Why a file is opened.

    `first_bytes` asks the open to bring along up to so many bytes from the start of the file, if that costs no further
    round trip.
    """

    first_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ShareStatistics:
    """A snapshot of one share's connection, for `smbfuse status`."""

    dialect: str
    signing: str  # '' when not signed
    sealing: str  # '' when not sealed
    login: str  # mechanism and user, never a secret
    peer: str  # address and port
    requests: int
    round_trips: int
    bytes_received: int
    bytes_sent: int
    in_flight: int
    credits: int
    connects: int  # 1 after the first, +1 with each reconnect


class OpenFile(Protocol):
    """One open file on the server, for reading."""

    @property
    def stat(self) -> FileStat:
        """What the open itself returned."""
        ...

    @property
    def caching(self) -> Caching:
        """What may be kept, by the server's grant."""
        ...

    @property
    def first(self) -> memoryview | None:
        """Bytes from offset 0 that came with the open; None: none were brought."""
        ...

    async def read(self, offset: int, length: int) -> memoryview:
        """Read up to `length` bytes (at most `limits.read`) at byte `offset`, in one request.

        Returns a view of 0 to `length` bytes that is the caller's to keep. It may be short: only an empty view means
        the end of the file.

        Cost: 1 round trip.
        Raises: StaleHandle (open again), Busy (a range is locked), ConnectionLost (safe to repeat), Timeout.
        """
        ...

    async def aclose(self) -> None:
        """Give the handle back. Waits for no answer and never raises: what can be done about it?"""
        ...


class OpenDirectory(Protocol):
    """A listing under way."""

    @property
    def stat(self) -> FileStat | None:
        """The folder itself, where opening it told."""
        ...

    async def page(self) -> Sequence[DirEntry]:
        """Return the next entries, without '.' and '..'; an empty sequence is the end, and stays so.

        Cost: 1 round trip, none for the pages that came with the open.
        Raises: as `OpenFile.read`.
        """
        ...

    async def aclose(self) -> None:
        """Give the handle back, at any point of the listing. Never raises."""
        ...


class Share(Protocol):
    """A connected tree: one share of one server."""

    @property
    def name(self) -> str:
        """The share's name as the user gave it."""
        ...

    @property
    def limits(self) -> Limits: ...

    @property
    def features(self) -> Features: ...

    @property
    def incarnation(self) -> int:
        """Count of connections so far: a handle of an older one is void."""
        ...

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is; a symlink is not followed.

        Cost: 1 round trip.  Raises: NotFound, Denied, WrongKind (ENOTDIR: a file where a folder should be).
        """
        ...

    async def open(self, path: str, intent: OpenIntent) -> OpenFile:
        """Open a file for reading, sharing everything with others.

        Cost: 1 round trip, the first bytes included where the dialect can.
        Raises: NotFound, Denied, Busy, WrongKind (EISDIR).
        """
        ...

    async def open_directory(self, path: str) -> OpenDirectory:
        """Begin to list a folder.

        Cost: 1 round trip, the first page included where the dialect can.
        Raises: NotFound, Denied, WrongKind (ENOTDIR).
        """
        ...

    async def read_link(self, path: str) -> str:
        """Return the target of a symlink, in POSIX spelling (components joined by '/').

        Cost: 1 round trip (up to 3 where the dialect needs a handle).
        Raises: NotFound, WrongKind (EINVAL: not a symlink), Unsupported (a kind of reparse point nobody knows).
        """
        ...

    async def space(self) -> Space:
        """Return the room on the share's volume.  Cost: 1 round trip."""
        ...

    async def echo(self) -> None:
        """Ask the server for a sign of life.  Cost: 1 round trip."""
        ...

    async def aclose(self) -> None:
        """Close open files, disconnect the tree and log off, within a short bound of time. Never raises."""
        ...

    def statistics(self) -> ShareStatistics:
        """Return a snapshot of counters and of what was negotiated."""
        ...


class ShareSource(Protocol):
    """Where a mount gets its shares from: one share, or a whole server whose shares are looked up by name."""

    @property
    def whole_server(self) -> bool:
        """True: the mount's root is the server, and its folders are shares."""
        ...

    async def share(self, name: str) -> Share:
        """Return the share called `name`, connected; '' is the only share of a mount that is not a whole server.

        Cost: 0 round trips when connected before, else 1 (a TREE_CONNECT).
        Raises: NotFound (no such share), Denied (not for this user).
        """
        ...

    def connected(self) -> Sequence[Share]:
        """Return the shares connected so far, in order of their first use."""
        ...

    async def aclose(self) -> None:
        """Close every share and the connection. Never raises."""
        ...
