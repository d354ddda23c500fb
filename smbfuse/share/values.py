"""What is said across the waist: plain values about files, opens, grants and the share itself."""

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview


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


# Those that can be set: the others tell what a file is.
SETTABLE: Final = Attributes.READONLY | Attributes.HIDDEN | Attributes.SYSTEM | Attributes.ARCHIVE


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
    three, which moves when the file is read or written; and an earlier one, which it has kept since it first wrote to
    the file, in some of its answers. Such a time proves nothing but that the file is no younger.
    """
    if before.created_ns is None or after.created_ns is None or before.created_ns == after.created_ns:
        return False
    if not creation_is_derived(before):
        return True
    return not creation_is_derived(after) and after.created_ns > before.created_ns


def creation_is_derived(stat: FileStat) -> bool:
    """Tell whether a creation time is the earliest of the other times, so that it may be no more than that."""
    others = (stat.accessed_ns, stat.written_ns, stat.changed_ns)
    return stat.created_ns == min((time for time in others if time is not None), default=None)


class Happened(enum.Enum):
    """What is told of a watched folder."""

    ADDED = enum.auto()
    REMOVED = enum.auto()
    MODIFIED = enum.auto()  # its content or its attributes
    RENAMED = enum.auto()
    ANYTHING = enum.auto()  # nobody knows what: everything below the folder may be another than before


class Notice(NamedTuple):
    """One change below a watched folder, whoever made it, ourselves included."""

    what: Happened
    path: str = ""  # below the watched folder, as the server spells it
    old_path: str = ""  # where it was, if it was renamed


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
    NOTIFY = enum.auto()  # `watch` may be asked
    POSIX = enum.auto()  # modes, owners and links are the server's own; an open file may be renamed over and unlinked
    STREAMS = enum.auto()
    SYMLINKS = enum.auto()  # `read_link` may be asked
    MAKES_SYMLINKS = enum.auto()  # `make_link` may be asked
    HARD_LINKS = enum.auto()
    SPECIAL_FILES = enum.auto()  # `make_node` makes FIFOs, sockets and devices
    EXTENDED_ATTRIBUTES = enum.auto()
    DIRECTORY_LEASES = enum.auto()
    CASE_SENSITIVE = enum.auto()


class Caching(enum.Flag):
    """What the server allows to keep: the grant of a lease or an oplock."""

    NONE = 0
    READ = enum.auto()
    WRITE = enum.auto()
    HANDLE = enum.auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and numbers in force on a share. They may change with a reconnect; `request` with the speed of the link."""

    read: int  # largest single read, bytes
    write: int
    transact: int  # largest listing page, bytes
    in_flight: int  # requests under way at once
    request: int = 1 << 30  # bytes that one read or write had better move: more would keep others waiting


class Creation(enum.Enum):
    """What an open may make."""

    NEVER = enum.auto()  # the file must exist
    IF_ABSENT = enum.auto()
    EXCLUSIVE = enum.auto()  # it must not exist: Exists if it does


class LinkForm(enum.Enum):
    """How a symlink or a special file is kept where the server has none of its own: the kind of reparse point."""

    NATIVE = enum.auto()  # Windows' own symlink; special files as NFS has them, Windows has none
    NFS = enum.auto()  # of Windows' NFS server
    WSL = enum.auto()  # of the Windows Subsystem for Linux


class GrantHolder(Protocol):
    """Who keeps what of one file (or folder) by the server's grant: one for each file, however often it is open.

    `key` is the lease key, 16 bytes, the client's own choice: opens with one key do not break each other's grant. All
    calls are plain, come from the connection's reader and must not block; work is for a task that they start.
    """

    key: bytes

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        """Hear that the server takes a grant back, down to `remaining`.

        What was kept beyond that is to be written out or dropped. `acknowledge`: the server holds another client up
        until `OpenFile.acknowledge` (or `OpenDirectory.acknowledge`, or the close of every handle) tells it that this
        is done; it waits some 35 s, then the handle is worth nothing.
        """
        ...

    def lost(self) -> None:
        """Hear that the connection has ended, and every grant with it: what is kept may be stale from now on."""
        ...

    def regained(self) -> None:
        """Hear that a file whose grant was lost has been reclaimed, or opened again, and brings one.

        `OpenFile.caching` tells which: it may be less than before, or more. It is from now on: what happened to the
        file since the loss is in its attributes, which are to be asked for first.
        """
        ...


class DurableOpen:
    """One open that may outlive its connection: kept by whoever will ask for it again, filled in by who can reclaim it.

    What is in it belongs to the share that has filled it in, and to the next connection of the same share.
    """

    __slots__ = ("claim", "in_doubt", "key", "unanswered")

    def __init__(self) -> None:
        self.claim: object | None = None  # what the server gives the open back for; None: it keeps nothing
        self.key = b""  # by which the server knows the open in each repetition of the request; b"": in none
        self.in_doubt = False  # a request to open was lost on its way, and may have been executed
        self.unanswered: set[object] = set()  # which changes by the handle were lost on their way


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """Why a file is opened, and what the open may do on the way.

    `first_bytes` asks the open to bring along up to so many bytes from the start of the file, if that costs no further
    round trip. `truncate` empties a file that exists. `mode` are the permission bits of a file that is made: kept by a
    server that knows modes (`Features.POSIX`); elsewhere a mode without any write bit makes it read-only.
    `holder` asks for `wanted`, a grant that is told to it when it breaks; None: nothing is asked for, and none given.
    `durable` asks the server to keep the open if the connection is lost. With a claim in it, the open is that lost one,
    given back, or refused: then it is worth nothing any more.
    """

    read: bool = True
    write: bool = False
    first_bytes: int = 0
    creation: Creation = Creation.NEVER
    truncate: bool = False
    mode: int | None = None
    holder: GrantHolder | None = None
    wanted: Caching = Caching.NONE
    durable: DurableOpen | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """New attributes of a file; None leaves one as it is.

    Times are nanoseconds since 1970, cut to 100 ns on the way. `attributes` replaces the DOS attributes that can be set
    (`SETTABLE`). `mode`, `uid` and `gid` are understood by servers with `Features.POSIX` only.
    """

    size: int | None = None
    created_ns: int | None = None
    accessed_ns: int | None = None
    written_ns: int | None = None
    attributes: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


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
