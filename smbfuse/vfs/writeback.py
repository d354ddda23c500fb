"""What is written here and not yet on the server: when it is sent, in which pieces, and how much of it there may be.

Theory of operation. A write that may wait is kept as a dirty extent, and the program goes on. It is sent when a whole
request has gathered, after a short time, when memory is short, or when somebody waits for it (flush, fsync, a grant
that breaks); as many requests at once as the share takes. A write that may not wait takes the same way, and its caller
waits for its own requests. So one rule keeps the order of a file: what overlaps a request under way is not sent before
that has been answered, and while the file is being cut nothing is sent at all.

Bytes that the server refused stay here, under whatever is written over them, and readers see them: whoever flushes or
syncs next tries them again. Until that succeeds nothing further is kept waiting: each write is sent at once and told
its own fate.

Who is told. Linux forgets what it could not write, so each open file hears of a loss once, and the next fsync knows of
none (`errseq_t`, its Documentation/core-api/errseq.rst). Here nothing is forgotten before the last close, so fsync and
close try again each time and tell how their own attempt ended: 0 means that all of it is there, however often they were
told otherwise before. A write does not try again what others have written: it tells each open file once of each attempt
that failed (`losses` counts them), as long as the loss stands. What has been saved since is told to nobody.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

import trio

from smbfuse.errors import Orphaned, SmbError
from smbfuse.share import Buffer
from smbfuse.vfs.budget import Budget
from smbfuse.vfs.extents import Chunk, Extents, Piece

log = logging.getLogger(__name__)


class Target(Protocol):
    """The open file that is written to."""

    @property
    def write_request(self) -> int:
        """How many bytes one request shall carry."""
        ...

    @property
    def slots(self) -> int:
        """How many requests may be under way for this file at once."""
        ...

    @property
    def path(self) -> str:
        """What the log calls the file."""
        ...

    def hold(self) -> None:
        """Hear that a request begins: the file must stay open."""
        ...

    def let_go(self) -> None:
        """Hear that a request has ended."""
        ...

    async def write(self, offset: int, data: Sequence[Buffer]) -> None:
        """Write all of one run to the server, in order."""
        ...

    def wrote(self, pieces: Sequence[Piece]) -> None:
        """Hear that pieces of one run are on the server now."""
        ...


class Request:
    """One run of bytes on its way to the server."""

    __slots__ = ("data", "done", "end", "error", "marks", "pieces", "start", "waits")

    def __init__(self, pieces: Sequence[Piece], *, waits: bool) -> None:
        self.pieces = pieces
        self.start = pieces[0].start
        self.end = pieces[-1].end
        self.data = [piece.data for piece in pieces]
        self.waits = waits  # somebody waits for the answer, and is told of the error
        self.error: SmbError | None = None
        self.done = trio.Event()


def choose(dirty: Extents, under_way: Sequence[Request], *, request: int, slots: int, hurry: int) -> Sequence[Chunk]:
    """Choose what to send now of what is dirty: at most `slots` ranges of at most `request` bytes, best first. Pure.

    First all that was written up to the mark `hurry`, whatever its size; then whole requests. Nothing that overlaps a
    request under way. A range that ends at a multiple of `request` counts as whole if it has half of it.
    """
    oldest = dirty.oldest()
    hurried = oldest is not None and oldest <= hurry
    pressing: list[Chunk] = []
    whole: list[Chunk] = []
    for chunk in dirty.chunks(request):
        urgent = chunk.mark <= hurry
        if not urgent and (chunk.end % request or 2 * (chunk.end - chunk.start) < request):
            continue
        if any(one.start < chunk.end and chunk.start < one.end for one in under_way):
            continue
        (pressing if urgent else whole).append(chunk)
        if len(pressing) >= slots or (not hurried and len(whole) >= slots):
            break
    return (pressing + whole)[:slots]


class Writeback:
    """The bytes of one file that are not on the server yet."""

    def __init__(self, target: Target, budget: Budget) -> None:
        self.unsaved = False  # whether there is anything here; asked by every read
        self.losses = 0  # attempts to write bytes kept here that were refused, in part at least
        self.error: SmbError | None = None  # the last such refusal
        self._target = target
        self._budget = budget
        self._dirty = Extents()
        self._refused = Extents()  # never where something is dirty
        self._under_way: list[Request] = []
        self._mark = 0  # of the newest write
        self._hurry = 0  # mark up to which everything is to be sent
        self._said: dict[int, int] = {}  # mark up to which the log says what was refused, by errno
        self._held_back = False  # while the file is being cut
        self._changed = trio.lowlevel.ParkingLot()  # who waits for requests to end

    def __repr__(self) -> str:
        return f"<Writeback {self._dirty!r}, {len(self._under_way)} requests, {self._refused.length} refused>"

    @property
    def may_wait(self) -> bool:
        """Whether writes may be kept here: not while the server refuses them."""
        return not self._refused

    @property
    def loss(self) -> SmbError | None:
        """Return why bytes that were kept here are not on the server; None: none were refused, or all are saved."""
        return self.error if self._refused else None

    @property
    def end(self) -> int:
        """Return the offset behind the last byte that is here."""
        sent = max((request.end for request in self._under_way), default=0)
        return max(self._dirty.end, self._refused.end, sent)

    def overlay(self, start: int, end: int) -> list[Piece]:
        """Return what is here of a range, to be laid over the server's bytes in this order."""
        if not self.unsaved:
            return []
        pieces = self._refused.overlay(start, end)
        for request in self._under_way:
            for piece in request.pieces:
                if piece.start < end and start < piece.end:
                    first, last = max(start, piece.start), min(end, piece.end)
                    view = memoryview(piece.data)[first - piece.start : last - piece.start]
                    pieces.append(Piece(first, view, piece.mark))
        return pieces + self._dirty.overlay(start, end)

    def remains(self) -> list[Chunk]:
        """Return the ranges that are not on the server, adjacent ones joined."""
        sent = [piece for request in self._under_way for piece in request.pieces]
        return _joined([*sent, *self._refused.pieces(), *self._dirty.pieces()])

    # -- writing

    def keep(self, offset: int, data: bytes) -> None:
        """Take bytes over, to be sent later; they must not change. For who has waited for `Budget.room`."""
        self._mark += 1
        self._dirty.put(offset, data, self._mark)
        self._cut_refused(offset, offset + len(data))
        self._note()
        request = self._target.write_request
        if offset // request != (offset + len(data)) // request:
            self.advance()

    async def through(self, offset: int, data: bytes) -> int:
        """Write to the server now; return how many bytes are there: all, or those before the first that were refused.

        Cost: 1 round trip, several requests at once for large data.
        Raises: as `OpenFile.write`, if not even the first bytes are there.
        """
        self._mark += 1
        mark, end = self._mark, offset + len(data)
        while self._held_back or self._overlaps(offset, end):
            self._press(mark)
            await self._changed.park()
        requests = [Request([piece], waits=True) for piece in _split(offset, data, mark, self._target.write_request)]
        for request in requests:
            self._send_soon(request)
        written = 0
        for request in requests:
            await request.done.wait()
            if request.error is not None:
                if not written:
                    raise request.error
                break
            written = request.end - offset
        return written

    async def drain(self, *, again: bool = True) -> None:
        """Wait until all that was written before this call is on the server, or was refused (see `loss`).

        What had been refused before is tried `again`, unless nobody could be told how that ended.
        Cost: as many round trips as there are full windows of requests.
        """
        if not self.unsaved:
            return
        mark = self._mark
        for piece in self._refused.cut(0) if again else ():
            # What is being written over it now, and may be refused too, is newer: the old bytes wait for that.
            place = self._refused if self._is_under_way(piece.start, piece.end) else self._dirty
            place.put(*piece)
        self._note()
        while (oldest := self._oldest()) is not None and oldest <= mark:
            self._press(mark)
            await self._changed.park()

    def press(self) -> None:
        """Send all that was written until now, soon."""
        self._press(self._mark)

    def abandon(self) -> list[Chunk]:
        """Drop what was refused, because nobody is left who could try again; say so in the log.

        Return what will be missed: nothing of a file that was removed.
        """
        given_up = _joined(self._refused.cut(0))
        for chunk in given_up:
            length = chunk.end - chunk.start
            log.log(
                self._level(),
                "file=%r %d bytes at offset %d are given up, the file is closed: %s",
                self._target.path,
                length,
                chunk.start,
                self.error,
            )
        self._said.clear()
        self._note()
        return [] if isinstance(self.error, Orphaned) else given_up

    @contextlib.asynccontextmanager
    async def cutting(self, size: int) -> AsyncIterator[None]:
        """Hold everything back while the file is given another size on the server; forget what lies beyond it.

        It comes back if the block is left by an error.
        """
        while self._held_back:
            await self._changed.park()
        self._held_back = True
        beyond: list[Piece] = []
        try:
            while self._under_way:
                await self._changed.park()
            beyond = [*self._dirty.cut(size), *self._refused.cut(size)]
            self._note()
            yield
            beyond.clear()
        finally:
            for piece in beyond:
                self._dirty.put_under(piece)
            self._held_back = False
            self._note()
            self._changed.unpark_all()
            self.advance()

    # -- sending

    def advance(self) -> None:
        """Send what may be sent now. Plain: the requests are tasks of their own."""
        if self._held_back or not self._dirty:
            return
        room = self._target.slots - len(self._under_way)
        if room <= 0:
            return
        request = self._target.write_request
        for chunk in choose(self._dirty, self._under_way, request=request, slots=room, hurry=self._hurry):
            self._send_soon(Request(self._dirty.cut(chunk.start, chunk.end), waits=False))

    def _send_soon(self, request: Request) -> None:
        self._under_way.append(request)
        self._note()
        self._target.hold()
        self._budget.sent()
        self._budget.spawn(self._send, request)

    async def _send(self, request: Request) -> None:
        try:
            await self._target.write(request.start, request.data)
        except SmbError as error:
            request.error = error
        except BaseException:
            # Cancelled: the filesystem ends. It stays among what is not on the server; nobody may be left waiting.
            request.error = SmbError("the filesystem is being unmounted")
            request.done.set()
            raise
        self._under_way.remove(request)
        if request.error is None:
            self._cut_refused(request.start, request.end)
            self._target.wrote(request.pieces)
        elif not request.waits:
            self._was_refused(request, request.error)
        self._note()
        self._budget.answered(request.end - request.start)
        request.done.set()
        self._changed.unpark_all()
        self.advance()
        self._report()
        self._target.let_go()

    def _was_refused(self, request: Request, error: SmbError) -> None:
        if not self._refused:
            self.losses += 1  # the first of this attempt
        self.error = error
        for piece in request.pieces:
            self._refused.put(*piece)
        for piece in self._dirty.overlay(request.start, request.end):
            self._refused.cut(piece.start, piece.end)

    def _report(self) -> None:
        """Have the log say what was refused, each loss once for each cause, as soon as all of an attempt is answered.

        While anything is refused no more is kept, so that this comes. Newer bytes are known by their marks.
        """
        if self._dirty or any(not request.waits for request in self._under_way):
            return
        if self._refused and self.error is not None:
            cause, said = self.error.errno, self._said.get(self.error.errno, 0)
            self._said[cause] = self._mark
            for chunk in _joined([piece for piece in self._refused.pieces() if piece.mark > said]):
                log.log(
                    self._level(),
                    "file=%r %d bytes at offset %d are not on the server: %s",
                    self._target.path,
                    chunk.end - chunk.start,
                    chunk.start,
                    self.error,
                )
        elif self._said:
            self._said.clear()
            log.info("file=%r nothing of it is missing on the server any longer", self._target.path)

    # -- inside

    def _level(self) -> int:
        """Return how loudly to say what was refused: what was lost with a removed file alarms nobody."""
        return logging.INFO if isinstance(self.error, Orphaned) else logging.WARNING

    def _press(self, mark: int) -> None:
        self._hurry = max(self._hurry, mark)
        self.advance()

    def _overlaps(self, start: int, end: int) -> bool:
        return self._dirty.overlaps(start, end) or self._is_under_way(start, end)

    def _is_under_way(self, start: int, end: int) -> bool:
        return any(request.start < end and start < request.end for request in self._under_way)

    def _oldest(self) -> int | None:
        marks = [piece.mark for request in self._under_way for piece in request.pieces]
        dirty = self._dirty.oldest()
        return min(marks if dirty is None else [*marks, dirty], default=None)

    def _cut_refused(self, start: int, end: int) -> None:
        if self._refused:
            self._refused.cut(start, end)

    def _note(self) -> None:
        """Bring up to date what others are told: after every change of what is here."""
        self.unsaved = bool(self._dirty or self._under_way or self._refused)
        sent = sum(request.end - request.start for request in self._under_way if not request.waits)
        self._budget.account(self, self._dirty.charge + sent)


def _joined(pieces: Sequence[Piece]) -> list[Chunk]:
    """Return the ranges that pieces cover, adjacent ones joined; later pieces may lie over earlier ones."""
    everything = Extents()
    for piece in pieces:
        everything.put(*piece)
    return list(everything.chunks(max(1, everything.end)))


def _split(offset: int, data: bytes, mark: int, request: int) -> Iterator[Piece]:
    """Yield a write in pieces that end at multiples of `request`, without a copy; whole if one request can carry it.

    Pieces may be carried out the later one first, so that who reads meanwhile finds zeros between them.
    """
    if len(data) <= request:
        yield Piece(offset, data, mark)
        return
    view = memoryview(data)
    at = 0
    while at < len(data):
        stop = min(len(data), at + request - (offset + at) % request)
        yield Piece(offset + at, view[at:stop], mark)
        at = stop
