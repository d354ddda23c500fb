"""One file that is open here any number of times, and on the server once to read and once to write, at most.

The handle to write reads as well wherever the server allows it, so that usually there is one: what a program writes can
then be completed from the server, and an oplock is not broken by ourselves. Whatever needs the file holds it; what was
let go by all is closed by its owner.
"""

import functools
import math
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol

import trio

from smbfuse.errors import SmbError
from smbfuse.share import Buffer, Caching, OpenFile, Share
from smbfuse.vfs.attrs import Version
from smbfuse.vfs.blocks import request_size
from smbfuse.vfs.budget import Budget
from smbfuse.vfs.extents import Piece
from smbfuse.vfs.fileblocks import FileBlocks
from smbfuse.vfs.grants import Grant
from smbfuse.vfs.inode import Node
from smbfuse.vfs.readahead import Readahead
from smbfuse.vfs.writeback import Writeback

IN_FLIGHT: Final = 16 << 20  # bytes on their way for one file, each way, where the link carries so much
MOST_AHEAD: Final = 16  # requests for one file, of the size that the link carries well: others want to use it too
SPARE_REQUESTS: Final = 2  # of those the server takes at once, left for whoever needs something else
# Content whose version nobody has told yet: we have written it without a grant, or may have lost it to somebody.
UNKNOWN: Final = Version(-1, None, None)


class Owner(Protocol):
    """Who opens and closes shared files, and hears what becomes of them."""

    def path_of(self, node: Node) -> str:
        """Return what a log calls the file."""
        ...

    def close(self, file: "SharedFile", server: OpenFile) -> None:
        """Give a handle back to the server."""
        ...

    def let_go(self, file: "SharedFile") -> None:
        """Hear that nobody holds the file any longer."""
        ...

    def wrote(self, file: "SharedFile", pieces: Sequence[Piece]) -> None:
        """Hear that pieces of the file were written to the server."""
        ...


class ServerHandle:
    """A handle on the server. `with handle as server:` keeps it from being closed meanwhile."""

    __slots__ = ("_file", "_retired", "_uses", "keeps_time", "reads", "server", "writes")

    def __init__(self, file: "SharedFile", server: OpenFile, *, reads: bool, writes: bool) -> None:
        self.server = server
        self.reads = reads
        self.writes = writes
        self.keeps_time = False  # a write time was set by it, which its writes do not move any longer
        self._file = file
        self._uses = 0
        self._retired = False

    def __enter__(self) -> OpenFile:
        self._uses += 1
        return self.server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._uses -= 1
        if self._retired and not self._uses:
            self._file.owner.close(self._file, self.server)

    def retire(self) -> None:
        """Close it, when its last use has ended."""
        if not self._retired:
            self._retired = True
            if not self._uses:
                self._file.owner.close(self._file, self.server)


class SharedFile:
    """An open file: its handles on the server, its content as far as it is here, its grant, and who needs it.

    Implements `blocks.Source` and `writeback.Target`.
    """

    def __init__(
        self, owner: Owner, node: Node, share: Share, grant: Grant, data: FileBlocks, size: int, budget: Budget
    ) -> None:
        self.owner = owner
        self.node = node
        self.share = share
        self.grant = grant
        self.data = data
        self.size = size  # bytes, with what is not on the server yet
        self.server_size = size
        self.writes = Writeback(self, budget)
        self.reader: ServerHandle | None = None
        self.writer: ServerHandle | None = None
        self.read_request = 0  # bytes that one fetch asks for
        self.write_request = 0  # set with the first handle that writes
        self._measure(write=False)
        self.opens = 0  # by the kernel
        self.write_opens = 0  # of these: to write
        self.users = 0  # these, opens ahead of the kernel's, and those that are just being made
        self.opening = trio.Semaphore(1)  # one open at a time, so that the others find its handle
        self.purging = 0  # while the kernel is dropping its pages: nothing is kept
        self.pages_due = False  # the kernel will be told to drop them
        self.writing = 0  # writes of programs that are not answered yet
        self.write_answered_at = -math.inf  # when the last one was, on trio's clock
        self.foreign = False  # another client may have changed it while it was open here
        self.own_changes = False  # changed here since the server told the version
        self.written_ns: int | None = None  # of the last write here, if the file shall have that time; 100 ns steps
        self.time_shown = False  # somebody was told `written_ns`
        self.moves_time = False  # closing it makes the server take another write time
        self.flushed = False  # the server has put on its disk what it has
        self.keep_until: float | None = None  # closed then, even if wanted again; see `closing.Kept`
        self.ended = False  # out of the table: closed when the last transfer has ended
        self.at_once = False  # somebody waits for its close
        self._holders = 0  # users, and transfers, which may outlive them

    def __repr__(self) -> str:
        return f"<SharedFile {self.node!r} opens={self.opens} holders={self._holders} {self.grant!r} {self.writes!r}>"

    @functools.cached_property
    def appending(self) -> trio.Lock:
        """Held between asking for the size and writing behind it."""
        return trio.Lock()

    @functools.cached_property
    def flushing(self) -> trio.Lock:
        """Held by the one who asks the server to put it on its disk."""
        return trio.Lock()

    @functools.cached_property
    def settling(self) -> trio.Lock:
        """Held by the one who gives it its times."""
        return trio.Lock()

    @property
    def path(self) -> str:
        return self.owner.path_of(self.node)

    @property
    def slots(self) -> int:
        """How many requests of one kind may be under way for this file at once."""
        limits = self.share.limits
        most = min(IN_FLIGHT, MOST_AHEAD * limits.request) // self.write_request
        return max(1, min(limits.in_flight - SPARE_REQUESTS, most))

    @property
    def covered(self) -> bool:
        """Whether nobody else can have written it: what is here of it is good until the grant breaks."""
        return Caching.READ in self.grant.current and not self.purging

    def can(self, *, read: bool, write: bool) -> bool:
        """Tell whether there are handles that do this."""
        return not (read and self.readable is None) and not (write and self.writer is None)

    @property
    def readable(self) -> ServerHandle | None:
        """The handle to read by."""
        return self.writer if self.writer is not None and self.writer.reads else self.reader

    def handles(self) -> list[ServerHandle]:
        """Return the handles on the server."""
        return [handle for handle in (self.writer, self.reader) if handle is not None]

    # -- who needs it

    def hold(self) -> None:
        """Count one more that needs the file open."""
        self._holders += 1

    def let_go(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1
        if not self._holders:
            self.owner.let_go(self)

    def attach(self, server: OpenFile, *, reads: bool, writes: bool) -> None:
        """Take a handle that was opened with this file's grant, in the place of one that does no more, or as surplus.

        The grant of the newest open is the file's: a lease is the same for all of them, and an oplock is only asked for
        again once the former is gone. Surplus is no handle that brings a grant where the file had none.
        """
        handle = ServerHandle(self, server, reads=reads, writes=writes)
        if writes:
            self._measure(write=True)
        elif self.writer is None and self.reader is None:
            self.grant.given(server.caching)
            self.reader = handle
            return
        better = server.caching and not self.grant.current
        self.grant.given(self.grant.current | server.caching if self.handles() else server.caching)
        former = self.writer if writes else self.readable
        if former is not None and not better and (former.reads or not reads):
            handle.retire()
            return
        replaced: list[ServerHandle | None]
        if not writes:
            replaced, self.reader = [self.reader], handle
        elif not reads:
            replaced, self.writer = [self.writer], handle
        else:
            replaced, self.writer, self.reader = [self.writer, self.reader], handle, None
        for one in replaced:
            if one is not None:
                one.retire()

    def detach(self) -> None:
        """Close the handles, when their last use has ended."""
        for handle in self.handles():
            handle.retire()
        self.reader = self.writer = None

    # -- transfers

    async def read(self, offset: int, length: int) -> memoryview:
        """Read from the server, in one request; see `OpenFile.read`."""
        handle = self.readable
        if handle is None:
            raise SmbError(f"{self.path!r} is not open to read")
        with handle as server:
            # A reconnect may have lowered the limit since the block was claimed.
            data = await server.read(offset, min(length, self.share.limits.read))
        self._measure(write=False)
        return data

    async def write(self, offset: int, data: Sequence[Buffer]) -> None:
        """Write all of one run to the server: one request, unless the server takes less than it said.

        Raises: SmbError as `OpenFile.write`.
        """
        if self.writer is None:
            raise SmbError(f"{self.path!r} is not open to write")
        with self.writer as server:
            while data:
                part, rest = _divide(data, self.share.limits.write)
                written = await server.write(offset, part)
                if written < 1:
                    raise SmbError(f"{self.path!r}: the server took none of the bytes at offset {offset}")
                offset += written
                unwritten = sum(map(len, part)) - written
                data = rest if not unwritten else [*_divide(part, written)[1], *rest]
                self._measure(write=True)

    def _measure(self, *, write: bool) -> None:
        """Take the size of later requests from what the share says now: it learns how fast its link is."""
        limits = self.share.limits
        if write:
            self.write_request = request_size(min(limits.write, limits.request))
        else:
            self.read_request = request_size(min(limits.read, limits.request))

    def wrote(self, pieces: Sequence[Piece]) -> None:
        """Hear that pieces of one run are on the server now."""
        self.server_size = max(self.server_size, pieces[-1].end)
        self.size = max(self.size, self.server_size)  # nobody may be left who waited for this write
        self.flushed = False
        self.own_changes = self.moves_time = True
        self.owner.wrote(self, pieces)


class Handle:
    """One open(2)."""

    __slots__ = ("append", "direct", "file", "losses", "readahead", "reads", "sync", "writes")

    def __init__(self, file: SharedFile, readahead: Readahead, flags: int, *, direct: bool) -> None:
        mode = flags & os.O_ACCMODE
        self.file = file
        self.readahead = readahead
        self.reads = mode != os.O_WRONLY
        self.writes = mode != os.O_RDONLY
        self.append = bool(flags & os.O_APPEND)
        self.direct = direct  # nothing is kept of what passes through it
        self.sync = bool(flags & os.O_DSYNC)  # O_SYNC has this bit too
        self.losses = file.writes.losses  # of which this handle need not hear, or has heard

    def raise_loss(self) -> None:
        """Tell through this handle that bytes of its file are not on the server. For who has just tried again.

        Raises: SmbError, as the server refused them.
        """
        loss = self.file.writes.loss
        if loss is not None:
            self.losses = self.file.writes.losses
            raise loss

    def raise_news(self) -> None:
        """Tell through this handle what has been lost since it was opened or last told; see `writeback`.

        Raises: SmbError, as the server refused it.
        """
        if self.losses != self.file.writes.losses:
            self.raise_loss()


def _divide(data: Sequence[Buffer], length: int) -> tuple[Sequence[Buffer], Sequence[Buffer]]:
    """Divide pieces of one run into the first `length` bytes and the rest, without a copy."""
    first: list[Buffer] = []
    for index, piece in enumerate(data):
        if len(piece) > length:
            view = memoryview(piece)
            if length:
                first.append(view[:length])
            return first, [view[length:], *data[index + 1 :]]
        first.append(piece)
        length -= len(piece)
    return data, []
