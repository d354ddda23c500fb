"""The waist of the hourglass: what the filesystem knows of a share, and all that it knows.

Above it: POSIX, caches, the kernel. Below it: SMB, sessions, sockets. Neither side imports the other. One call is one
request or one compound; nothing is cached here. A path is a `str` of the server's own name components joined by '/',
'' for the root of the share; components hold no '/' and may hold unpaired surrogates.

Every call may raise `SmbError`; the classes of `errors.py` say what can be done about it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from smbfuse.errors import SmbError
from smbfuse.share.source import ShareSource
from smbfuse.share.values import (
    SETTABLE,
    Attributes,
    Buffer,
    Caching,
    Change,
    Creation,
    DirEntry,
    DurableOpen,
    Features,
    FileStat,
    GrantHolder,
    Happened,
    Kind,
    Limits,
    LinkForm,
    Notice,
    OpenIntent,
    ShareStatistics,
    Space,
    creation_differs,
    creation_is_derived,
)

__all__ = [
    "SETTABLE",
    "Attributes",
    "Buffer",
    "Caching",
    "Change",
    "Creation",
    "DirEntry",
    "DurableOpen",
    "Features",
    "FileStat",
    "GrantHolder",
    "Happened",
    "Kind",
    "Limits",
    "LinkForm",
    "Notice",
    "OpenDirectory",
    "OpenFile",
    "OpenIntent",
    "Opened",
    "Share",
    "ShareSource",
    "ShareStatistics",
    "Space",
    "Watch",
    "creation_differs",
    "creation_is_derived",
]


class OpenFile(Protocol):
    """One open file on the server, for what its intent said."""

    @property
    def stat(self) -> FileStat:
        """What the open itself returned."""
        ...

    @property
    def caching(self) -> Caching:
        """What may be kept now, by the server's grant; less after a break, none after a loss."""
        ...

    @property
    def created(self) -> bool:
        """Whether this open has made the file."""
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

    async def write(self, offset: int, data: Sequence[Buffer]) -> int:
        """Write `data`, pieces of one run of at most `limits.write` bytes, at byte `offset`, in one request.

        Returns how many bytes were written: fewer only if the server took, or let us send, fewer. The pieces are not to
        be changed until this returns, and not copied here.
        Cost: 1 round trip.
        Raises: NoSpace, Denied, Busy (a range is locked), StaleHandle; ConnectionLost and Timeout (the same bytes at
        the same place may be written again).
        """
        ...

    async def flush(self) -> None:
        """Have the server put what was written on its disk.  Cost: 1 round trip.  Raises: as `write`."""
        ...

    async def refresh(self) -> FileStat:
        """Return the file's attributes by its handle, whatever its name is now.  Cost: 1 round trip."""
        ...

    async def change(self, change: Change) -> None:
        """Change attributes by the handle; a time so set is not moved by writes through this handle any longer.

        Cost: 1 round trip for each kind: size, times and DOS attributes, owners, mode; in this order.
        Raises: Denied, NoSpace, Unsupported (mode and owners without `Features.POSIX`).
        """
        ...

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break: everything kept beyond `remaining` is written out or dropped. Never raises."""
        ...

    async def stand_aside(self) -> None:
        """Make sure that this handle does not forbid the renaming and deletion of its file.

        Cost: none but for SMB1's OPEN_ANDX, which shares no deletion: opened again otherwise, 2 round trips.
        Raises: StaleHandle if the file cannot be opened again.
        """
        ...

    async def aclose(self) -> None:
        """Give the handle back. Waits for no answer and never raises: what can be done about it?"""
        ...


# Told which of several files was opened, by its index, or why it was not.
Opened = Callable[[int, OpenFile | SmbError], None]


class OpenDirectory(Protocol):
    """A listing under way."""

    @property
    def stat(self) -> FileStat | None:
        """The folder itself, where opening it told."""
        ...

    @property
    def caching(self) -> Caching:
        """What may be kept of the folder's names, by the server's grant (a directory lease)."""
        ...

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break; see `OpenFile.acknowledge`."""
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


class Watch(Protocol):
    """A folder whose changes are told as they happen; for one task at a time."""

    @property
    def stands(self) -> bool:
        """Whether the server notes every change for us: then what was not told has not happened, or is on its way."""
        ...

    async def notices(self) -> Sequence[Notice]:
        """Wait for changes, as long as it takes, and return them in their order, at least one.

        Between two calls, and by a cancelled one, none is lost: the server keeps them, and says ANYTHING where they
        were too many. ANYTHING comes as well when the watch stands again after a lost connection.
        Cost: 1 round trip for each answer; the next request leaves before this returns.
        Raises: ConnectionLost and Timeout (there is no connection: ask again later), and what ends the watch for good:
        NotFound or StaleHandle (the folder is gone), Denied, Unsupported, DecodeError.
        """
        ...

    async def aclose(self) -> None:
        """Have nothing told any more. Waits for no answer and never raises."""
        ...


class Share(Protocol):
    """A connected tree: one share of one server.

    What a server does not have is said by `features` beforehand, and raises Unsupported if asked for all the same.
    """

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
        """Open a file, or make it, sharing everything with others. A symlink is not followed.

        Cost: 1 round trip, the first bytes included where the dialect can.
        Raises: NotFound, Exists, Denied (EROFS where the share or medium is read-only), Busy, NoSpace, WrongKind
        (EISDIR; ELOOP for a symlink).
        """
        ...

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        """Open several files at once, before anybody needs them; `opened` is told of each in turn, as soon as may be.

        What a lost connection interrupts is not repeated: it is told as ConnectionLost.
        Cost: 1 round trip for all of them where the dialect takes several requests at once, else 1 for each.
        """
        ...

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> OpenDirectory:
        """Begin to list a folder. `holder` asks for a directory lease on it.

        Cost: 1 round trip, the first page included where the dialect can.
        Raises: NotFound, Denied, WrongKind (ENOTDIR).
        """
        ...

    async def watch(self, path: str, *, recursive: bool = True) -> Watch:
        """Watch a folder, with all that is below it if `recursive`: what changes after this has returned is told.

        The folder stays open meanwhile, which keeps it from being renamed or removed by some servers.
        Cost: 2 round trips.
        Raises: NotFound, Denied, WrongKind (ENOTDIR), Unsupported (no `Features.NOTIFY`, or too many watches for the
        number of requests that the server allows at once).
        """
        ...

    async def read_link(self, path: str) -> str:
        """Return the target of a symlink, in POSIX spelling (components joined by '/').

        Cost: 1 round trip (up to 3 where the dialect needs a handle).
        Raises: NotFound, WrongKind (EINVAL: not a symlink), Unsupported (a kind of reparse point nobody knows).
        """
        ...

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        """Make a folder and return what it is.  Cost: 1 round trip (2 over SMB1).  Raises: Exists, NotFound, Denied."""
        ...

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        """Make a symlink to `target`, in POSIX spelling, and return what it is.

        `form` counts only where the server keeps links as reparse points. Nothing is left behind by a refusal.
        Cost: 1 to 3 round trips.  Raises: Exists, NotFound, Denied, Unsupported (no `Features.MAKES_SYMLINKS`).
        """
        ...

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        """Make a FIFO, socket or device node and return what it is; `form` as in `make_link`.

        Cost: 1 to 3 round trips.  Raises: Exists, NotFound, Denied, Unsupported (no `Features.SPECIAL_FILES`).
        """
        ...

    async def link(self, existing: str, path: str) -> None:
        """Give the file `existing` the further name `path`.

        Cost: 1 round trip.  Raises: Exists, NotFound, Denied, Unsupported (no `Features.HARD_LINKS`).
        """
        ...

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        """Remove a name: an empty folder for `Kind.DIRECTORY`, else anything but a folder; a symlink itself.

        A file that is open lives on nameless with `Features.POSIX`; elsewhere its name stays taken until its last
        handle is closed, and opening it is refused. `holder`: whose grant this must not break.
        Cost: 1 round trip.
        Raises: NotFound, Denied, Busy (open without sharing deletion), NotEmpty, WrongKind (ENOTDIR, EISDIR).
        """
        ...

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        """Give a file or folder another name; with `replace` in the place of what has that name.

        `holder`: the grant on `source` that this must not break.
        Cost: 1 round trip, 2 or 3 where a target must be removed first (SMB1).
        Raises: Exists, NotFound, Denied (also for a target that is open, a folder with open files below, a folder as
        target: without `Features.POSIX` servers refuse them), Busy, WrongKind, NotEmpty.
        """
        ...

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        """Change attributes by path, a symlink's own, and return what they are then.

        Cost: 1 round trip (2 or 3 over SMB1).  Raises: as `OpenFile.change`, NotFound.
        """
        ...

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        """Return the extended attributes (EA) of a file, names as the server spells them.

        Cost: 1 round trip.  Raises: NotFound, Denied, Unsupported (no `Features.EXTENDED_ATTRIBUTES`).
        """
        ...

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        """Set one extended attribute; an empty value removes it: the protocol knows no empty ones.

        Cost: 1 round trip.  Raises: NotFound, Denied, NoSpace, Unsupported.
        """
        ...

    async def security_descriptor(self, path: str) -> bytes:
        """Return owner, group and DACL of a file as a self-relative SECURITY_DESCRIPTOR ([MS-DTYP] 2.4.6).

        Cost: 1 round trip.  Raises: NotFound, Denied, Unsupported.
        """
        ...

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        """Set the DACL of a file, and owner and group if the descriptor has them.  Cost: 1 round trip."""
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
