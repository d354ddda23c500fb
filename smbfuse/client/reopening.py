"""Open files that outlive their connection: reclaimed, or opened again by path and proven to be the same.

A handle ends with its connection. The next call on it asks the server to give back the open itself, if it was to keep
it (`share.DurableOpen`): then nothing needs to be proven. Else it opens the path again, without making or emptying
anything, asks for the same grant, and goes on if the file is provably the same (`evidence.Known`); else this handle
alone is void for good: StaleHandle (ESTALE), or EIO where somebody else has changed the file and bytes of ours were on
their way, which the log names then. A path follows what is renamed through the share; what was removed through it has
none any more.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import trio

from smbfuse.client.evidence import Known, Proof
from smbfuse.client.protection import Protection
from smbfuse.errors import (
    ConnectionLost,
    Denied,
    NotFound,
    Orphaned,
    SessionGone,
    SmbError,
    StaleHandle,
    Timeout,
    WrongKind,
)
from smbfuse.share import (
    Buffer,
    Caching,
    Change,
    Creation,
    DurableOpen,
    FileStat,
    OpenFile,
    OpenIntent,
    Share,
)
from smbfuse.status import NtStatus
from smbfuse.wire.dtyp import STEP_NS

if TYPE_CHECKING:
    from smbfuse.client.handles import Holding
    from smbfuse.client.reconnect import ReconnectingShare

log = logging.getLogger(__name__)

T = TypeVar("T")


class Reopening:
    """What files and folders have in common: a handle of one incarnation, and a path that follows renames."""

    def __init__(self, share: ReconnectingShare, path: str, holding: Holding | None, incarnation: int) -> None:
        self.path: str | None = path  # None: removed, or replaced by another file
        self._opened_as = path
        self.holding = holding  # who stands for the holder on the handle's connection
        self._share = share
        self._incarnation = incarnation  # of the handle; 0: the server has closed it
        self._closed = False
        self._void: str | None = None  # why it is void for good

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} incarnation {self._incarnation}>"

    def _stands(self) -> bool:
        return not self._closed and self._share.in_force(self._incarnation)

    async def _reopen(self, attempt: Callable[[str], Awaitable[Proof]]) -> None:
        """Open the path again by `attempt`, which proves what it has opened; on with the next path if it was renamed.

        Raises: StaleHandle, now and ever after, if it is not the same.
        """
        while True:
            path, incarnation = self.path, self._share.incarnation
            if path is None and self._void is None:
                self._give_up(Proof.ANOTHER)
            if path is None or self._void is not None or self._closed:
                raise self._error()
            try:
                proof = await attempt(path)
            except (NotFound, WrongKind):
                proof = Proof.ANOTHER
            if proof is Proof.SAME:
                self._incarnation = incarnation
                return
            # A rename of ours that was under way meanwhile may be what took the file from its path.
            if not await self._share.renames_ended(path) and self.path == path:
                self._give_up(proof)

    def _give_up(self, proof: Proof) -> None:
        if self.path is None:
            self._void = f"{self._opened_as!r}: it was removed, and then the connection was lost"
            return
        what = "was changed by somebody else" if proof is Proof.CHANGED else "is gone, or another file has its name"
        self._void = f"{self.path!r}: it {what} since the connection was lost"

    def _error(self) -> SmbError:
        return StaleHandle(self._void or f"{self.path!r} is closed", status=NtStatus.FILE_CLOSED)


class ReconnectingFile(Reopening):
    """An `OpenFile` that is opened again, and proven the same, when its handle is void."""

    def __init__(
        self,
        share: ReconnectingShare,
        path: str,
        intent: OpenIntent,
        file: OpenFile,
        incarnation: int,
        known: Known,
        holding: Holding | None,
        durable: DurableOpen | None = None,
    ) -> None:
        super().__init__(share, path, holding, incarnation)
        self._durable = durable
        self.known = known
        self.stat = file.stat
        self.first = file.first
        self.created = file.created
        self._intent = intent
        self._file = file
        self._one_reopens = trio.Lock()
        self._has_changed = False  # anything, by this handle
        self._lost_writes: dict[int, int] = {}  # start and end of each write whose answer never came
        self._damaged = False  # by somebody else, with writes of ours on their way
        self._written_ns: int | None = None  # the write time that `change` has set: writes do not move it
        self._aside = False
        self._protection: Protection | None = None  # of a file that was made here, once it was opened again

    @property
    def caching(self) -> Caching:
        return self._file.caching if self._stands() else Caching.NONE

    async def read(self, offset: int, length: int) -> memoryview:
        return await self._perform(lambda file: file.read(offset, length))

    async def write(self, offset: int, data: Sequence[Buffer]) -> int:
        end = offset + sum(memoryview(piece).nbytes for piece in data)

        async def write(file: OpenFile) -> int:
            begun, written = self._begin(reach=end), None
            try:
                written = await file.write(offset, data)
            except (ConnectionLost, Timeout):
                self._lost_writes[offset] = max(end, self._lost_writes.get(offset, 0))
                raise
            finally:
                self.known.end(begun, reach=offset + (written or 0), done=written is not None)
            if self._lost_writes:
                self._confirm(offset, offset + written)
            return written

        return await self._perform(write)

    async def flush(self) -> None:
        await self._perform(lambda file: file.flush())

    async def refresh(self) -> FileStat:
        async def refresh(file: OpenFile) -> FileStat:
            asked = self._share.evidence.now()
            stat = await file.refresh()
            self._share.evidence.told(stat, asked)
            return stat

        return await self._perform(refresh)

    async def change(self, change: Change) -> None:
        async def apply(file: OpenFile) -> None:
            begun, done = self._begin(size=change.size), False
            try:
                await file.change(change)
                done = True
            finally:
                self.known.end(begun, size=change.size, done=done)

        await self._perform(apply)
        self.time_was_set(change, by_handle=True)

    def time_was_set(self, change: Change, *, by_handle: bool = False) -> None:
        """Hear that a write time was set. From the first that this handle sets on, its writes may not move it."""
        if change.written_ns is not None and (by_handle or self._written_ns is not None):
            self._written_ns = change.written_ns - change.written_ns % STEP_NS

    async def acknowledge(self, remaining: Caching) -> None:
        if self._stands():
            await self._file.acknowledge(remaining)

    async def stand_aside(self) -> None:
        self._aside = True  # and it will when it is opened again
        if self._stands():
            try:
                await self._file.stand_aside()
            except (ConnectionLost, SessionGone) as error:
                log.debug("a void handle forbids nothing path=%r reason=%s", self.path, error)

    async def aclose(self) -> None:
        if self._closed:
            return
        stood, self._closed = self._stands(), True
        self._share.closed(self)
        if self._has_changed:
            self.known.close_writer()
        if stood or (self._durable is not None and self._durable.claim is not None):
            await self._file.aclose()

    def _begin(self, *, reach: int = 0, size: int | None = None) -> int:
        if not self._has_changed and not self._closed:
            self._has_changed = True
            self.known.writers += 1
        return self.known.begin(reach=reach, size=size)

    def _confirm(self, start: int, end: int) -> None:
        lost = self._lost_writes.items()
        self._lost_writes = {one: other for one, other in lost if one < start or other > end}

    async def _perform(self, call: Callable[[OpenFile], Awaitable[T]]) -> T:
        async def attempt(share: Share) -> T:
            file = self._file if self._stands() else await self._usable(share)
            try:
                return await call(file)
            except StaleHandle as error:
                # The server closed it behind our back: once more with a new handle, then it is the caller's to know.
                self._closed_by_server(file, error)
                return await call(await self._usable(share))

        return await self._share.repeat(attempt)

    def _closed_by_server(self, file: OpenFile, why: StaleHandle) -> None:
        if self._file is file and self._stands():
            log.debug("the server has closed a handle path=%r reason=%s", self.path, why)
            self._incarnation = 0
            if self._durable is not None:
                self._durable.claim = None
            self.known.doubt()
            if self.holding is not None:
                self.holding.holder.lost()  # and not its own: the grant may go on by another handle, and break

    async def _usable(self, share: Share) -> OpenFile:
        """Return a handle of the connection in force.  Raises: StaleHandle, or EIO: see the module's docstring."""

        async def attempt(path: str) -> Proof:
            asked = self._share.evidence.now()
            holding = self._share.holding(self._intent.holder)
            durable = DurableOpen() if self._durable is not None else None
            intent = self._again(holding, durable)
            if self.created and intent.write:
                self._protection = self._protection or Protection()
                file = await self._protection.open(share, path, intent, is_ours=self._is_ours)
            else:
                file = await share.open(path, intent)
            proof = self.known.judge(file.stat, writing=self._intent.write)
            try:
                if proof is Proof.SAME:
                    self.known.prove(file.stat, asked)
                    await self._make_alike(file)
                if self._closed:
                    raise self._error()
            except BaseException:
                await file.aclose()
                raise
            if proof is Proof.SAME:
                self._file, self.holding, self._durable = file, holding, durable
            else:
                await file.aclose()
            return proof

        async with self._one_reopens:
            if not self._stands():
                if not await self._reclaim(share):
                    await self._reopen(attempt)
                if self.holding is not None and self.caching:
                    self.holding.regained()
            return self._file

    async def _reclaim(self, share: Share) -> bool:
        """Have the server give the lost open back, if it has kept it; return whether it has.

        It is the same by the server's own word, whatever its name is now, and with what belongs to an open: the grant
        that it still has, a removal that waits for its end. What others have written beside it is no matter, as it
        were without the loss; unless writes of ours were on their way: those could undo theirs.
        """
        durable, incarnation = self._durable, self._share.incarnation
        if durable is None or durable.claim is None or self._void is not None or self._closed:
            return False
        asked = self._share.evidence.now()
        holding = self._share.holding(self._intent.holder)
        try:
            file = await share.open(self.path or self._opened_as, self._again(holding, durable))
        except (ConnectionLost, SessionGone, Timeout):
            raise
        except SmbError as error:
            log.debug("not kept by the server path=%r reason=%s", self.path, error)
            durable.claim = None
            return False
        try:
            proof = self.known.judge(file.stat, writing=True)
            if proof is Proof.ANOTHER or (proof is Proof.CHANGED and self._lost_writes) or self._closed:
                await file.aclose()
                return False
            self.known.prove(file.stat, asked)
            await self._make_alike(file)
        except BaseException:
            await file.aclose()
            raise
        log.debug("reclaimed path=%r", self.path)
        self._file, self.holding, self._incarnation = file, holding, incarnation
        return True

    def _again(self, holding: Holding | None, durable: DurableOpen | None) -> OpenIntent:
        """Return the intent without what may happen only once."""
        return replace(
            self._intent,
            creation=Creation.NEVER,
            truncate=False,
            first_bytes=0,
            holder=holding,
            durable=durable,
        )

    def _is_ours(self, stat: FileStat) -> bool:
        return self.known.judge(stat, writing=True) is Proof.SAME

    async def _make_alike(self, file: OpenFile) -> None:
        """Give a new handle the manners of the one that was lost."""
        if self._aside:
            await file.stand_aside()
        # Only if it still is what was set: where writes move it all the same, it is theirs by now.
        if self._written_ns is not None and file.stat.written_ns == self._written_ns:
            begun = self.known.begin()
            try:
                await file.change(Change(written_ns=self._written_ns))
            except Denied as error:
                log.debug("a time is not set again path=%r reason=%s", self.path, error)
            finally:
                self.known.end(begun, done=False)

    def _give_up(self, proof: Proof) -> None:
        super()._give_up(proof)
        if self._lost_writes:
            self._damaged = proof is Proof.CHANGED
            spans = ", ".join(f"{start} to {end - 1}" for start, end in sorted(self._lost_writes.items()))
            level = logging.INFO if self._is_orphaned() else logging.WARNING
            log.log(level, "%s; bytes %s of it were on their way and may not be on the server", self._void, spans)

    def _error(self) -> SmbError:
        if self._damaged:
            return SmbError(self._void or "", errno=errno.EIO)
        if self._void is not None and self._is_orphaned():
            return Orphaned(self._void, status=NtStatus.FILE_CLOSED)
        return super()._error()

    def _is_orphaned(self) -> bool:
        return self.path is None and self.stat.links in (None, 1)
