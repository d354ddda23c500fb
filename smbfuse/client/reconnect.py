"""A share that outlives its connections: dialled again when lost, and what only reads repeated.

Theory of operation. A `Supervisor` owns the login: one `Session` at a time, counted by `incarnation`. Whoever needs the
session while there is none shares one dial with everybody else. `ReconnectingShare` stands in front of the dialect's
share; each call names the incarnation it used, so that ten callers who lose the same connection cause one reconnect.

Handles of an older incarnation are void. A file is opened again by its path and must be proven to be the same file
(file id, creation, change and write time, size); a listing is begun again and the names already given are left out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import trio

from smbfuse.client.supervisor import FAREWELL_S, Supervisor
from smbfuse.errors import (
    ConnectionLost,
    ProtocolError,
    SessionGone,
    SmbError,
    StaleHandle,
    Timeout,
)
from smbfuse.share import (
    DirEntry,
    Features,
    FileStat,
    Limits,
    OpenDirectory,
    OpenFile,
    OpenIntent,
    Share,
    ShareStatistics,
    Space,
    creation_differs,
)
from smbfuse.status import NtStatus

log = logging.getLogger(__name__)

T = TypeVar("T")
H = TypeVar("H", "ReconnectingFile", "ReconnectingDirectory")

FIRST_PAUSE_S: Final = 0.2  # between dials; doubled with each failure, jittered, and never above the last
LONGEST_PAUSE_S: Final = 10.0
MOST_NAMES: Final = 4_000_000  # in one folder; a server that names more never ends
MOST_REPEATS: Final = 4  # of one call: a request that kills every connection is the request's fault


class ReconnectingShare:
    """A `Share` whose calls survive the loss of the connection, as all of them only read.

    `path` is the folder of the share that the mount shows as its root.
    """

    def __init__(self, supervisor: Supervisor, name: str, *, path: str = "") -> None:
        self._supervisor = supervisor
        self.name = name
        self._path = path
        self.incarnation = 0
        self._share: Share | None = None
        self._session_incarnation = 0  # of the login that `_share` belongs to; 0: the tree is gone
        self._connecting = trio.Lock()
        self._open: set[ReconnectingFile | ReconnectingDirectory] = set()  # what `aclose` gives back

    @property
    def limits(self) -> Limits:
        return self._known().limits

    @property
    def features(self) -> Features:
        return self._known().features

    async def connect(self) -> None:
        """Connect the tree now.  Raises: NotFound, Denied, and all that a dial may raise."""
        await self.repeat(_nothing)

    async def stat(self, path: str) -> FileStat:
        return await self.repeat(lambda share: share.stat(self._below(path)))

    async def open(self, path: str, intent: OpenIntent) -> ReconnectingFile:
        below = self._below(path)
        file = await self.repeat(lambda share: share.open(below, intent))
        return self._opened(ReconnectingFile(self, below, file))

    async def open_directory(self, path: str) -> ReconnectingDirectory:
        below = self._below(path)
        directory = await self.repeat(lambda share: share.open_directory(below))
        return self._opened(ReconnectingDirectory(self, below, directory))

    async def read_link(self, path: str) -> str:
        return await self.repeat(lambda share: share.read_link(self._below(path)))

    async def space(self) -> Space:
        return await self.repeat(lambda share: share.space())

    async def echo(self) -> None:
        await self.repeat(lambda share: share.echo())

    async def aclose(self) -> None:
        """Close what is open and disconnect the tree; the login stays for other shares."""
        share, self._share = self._share, None
        if share is not None and self._session_incarnation == self._supervisor.incarnation:
            with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
                for handle in tuple(self._open):
                    await handle.aclose()
                await share.aclose()

    def statistics(self) -> ShareStatistics:
        return replace(self._known().statistics(), connects=self._supervisor.incarnation)

    async def repeat(self, call: Callable[[Share], Awaitable[T]]) -> T:
        """Make `call` on the share in force, and again on a new connection if the old one is lost meanwhile.

        The time without a connection is bounded by `timeo`, counted from the loss; a call that keeps losing its
        connection is given up after a few repeats.
        """
        repeats = 0
        while True:
            share, incarnation = await self._current()
            try:
                return await call(share)
            except SessionGone as error:
                lost: SmbError = error
            except ConnectionLost as error:
                lost = error
            repeats += 1
            if repeats > MOST_REPEATS:
                raise lost
            log.debug("repeated after a loss share=%s repeats=%d reason=%s", self.name, repeats, lost)
            self._lost(share, incarnation, lost)

    def closed(self, handle: ReconnectingFile | ReconnectingDirectory) -> None:
        """Hear that a handle was given back."""
        self._open.discard(handle)

    def _opened(self, handle: H) -> H:
        self._open.add(handle)
        return handle

    def _known(self) -> Share:
        if self._share is None:
            raise ConnectionLost(f"{self.name} is not connected", sent=False)
        return self._share

    def _below(self, path: str) -> str:
        return f"{self._path}/{path}" if self._path and path else self._path or path

    def _lost(self, share: Share, incarnation: int, why: SmbError) -> None:
        gone = isinstance(why, SessionGone) and why.status == NtStatus.NETWORK_NAME_DELETED
        if gone and self._share is share:
            self._session_incarnation = 0  # only the tree is gone: connect that again, the login still holds
        elif not gone:
            self._supervisor.discard(incarnation, why)

    async def _current(self) -> tuple[Share, int]:
        """Return the share of the connection in force, dialling with growing pauses until `timeo` has passed."""
        if self._share is not None and self._supervisor.in_force(self._session_incarnation):
            return self._share, self._session_incarnation
        pause = FIRST_PAUSE_S
        deadline = trio.current_time() + self._supervisor.timeo_s
        while True:
            try:
                with trio.fail_at(deadline):
                    session, incarnation = await self._supervisor.session()
                    async with self._connecting:
                        if self._share is None or self._session_incarnation != incarnation:
                            self._share = await session.connect_share(self.name)
                            self._session_incarnation = incarnation
                            self.incarnation += 1
                    return self._share, incarnation
            except trio.TooSlowError:
                error = self._supervisor.last_error
                raise error or Timeout(f"{self.name}: no connection within {self._supervisor.timeo_s:g} s") from None
            except ConnectionLost as error:
                hopeless = self._supervisor.final or not self._supervisor.incarnation  # ended, or never worked
                if hopeless or trio.current_time() + pause >= deadline:
                    raise
                log.debug("dial failed, again in %.1f s: %s", pause, error)
            await trio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)


class ReconnectingFile:
    """An `OpenFile` that is opened again, and proven the same, when its handle is void."""

    def __init__(self, share: ReconnectingShare, path: str, file: OpenFile) -> None:
        self._share = share
        self._path = path
        self._file = file
        self._incarnation = share.incarnation
        self._reopening = trio.Lock()
        self._closed = False
        self.stat = file.stat
        self.caching = file.caching
        self.first = file.first

    def __repr__(self) -> str:
        return f"<ReconnectingFile {self._path!r} incarnation {self._incarnation}>"

    async def read(self, offset: int, length: int) -> memoryview:
        async def attempt(share: Share) -> memoryview:
            file = await self._usable(share)
            try:
                return await file.read(offset, length)
            except StaleHandle:
                # The server closed it behind our back: once more with a new handle, then it is the caller's to know.
                self._incarnation = 0
                return await (await self._usable(share)).read(offset, length)

        return await self._share.repeat(attempt)

    async def aclose(self) -> None:
        self._closed = True
        self._share.closed(self)
        if self._incarnation == self._share.incarnation:
            await self._file.aclose()

    async def _usable(self, share: Share) -> OpenFile:
        """Return a handle of the connection in force.  Raises StaleHandle if the path now means another file."""
        async with self._reopening:
            incarnation = self._share.incarnation
            if self._incarnation != incarnation:
                file = await share.open(self._path, OpenIntent())
                if not same_file(self.stat, file.stat):
                    await file.aclose()
                    raise StaleHandle(
                        f"{self._path!r} is another file, or was changed, since the connection was lost",
                        status=NtStatus.FILE_CLOSED,
                    )
                self._file = file
                self._incarnation = incarnation
                if self._closed:
                    await file.aclose()
            return self._file


class ReconnectingDirectory:
    """An `OpenDirectory` that goes on after a loss: listed again, without the names that were given already."""

    def __init__(self, share: ReconnectingShare, path: str, directory: OpenDirectory) -> None:
        self._share = share
        self._path = path
        self._directory = directory
        self._incarnation = share.incarnation
        self._given: set[str] = set()
        self._repeated = 0  # names that came again since the listing was last begun
        self.stat = directory.stat

    async def page(self) -> Sequence[DirEntry]:
        return await self._share.repeat(self._next_page)

    async def aclose(self) -> None:
        self._share.closed(self)
        if self._incarnation == self._share.incarnation:
            await self._directory.aclose()

    async def _next_page(self, share: Share) -> Sequence[DirEntry]:
        if self._incarnation != self._share.incarnation:
            self._directory = await share.open_directory(self._path)
            self._incarnation = self._share.incarnation
            self._repeated = 0
        while entries := await self._directory.page():
            fresh = [entry for entry in entries if entry.name not in self._given]
            self._repeated += len(entries) - len(fresh)
            # A listing that was begun again repeats each name once; one that goes on repeating leads in circles.
            if self._repeated > len(self._given) or len(self._given) > MOST_NAMES:
                raise ProtocolError(f"the listing of {self._path!r} does not come to an end")
            if fresh:
                self._given.update(entry.name for entry in fresh)
                return fresh
        return ()


def same_file(before: FileStat, after: FileStat) -> bool:
    """Tell whether two stats surely speak of one unchanged file; what the server never says counts as equal."""
    return (
        before.kind == after.kind
        and before.file_id == after.file_id
        and before.volume_id == after.volume_id
        and not creation_differs(before, after)
        and before.changed_ns == after.changed_ns
        and before.written_ns == after.written_ns
        and before.size == after.size
    )


async def _nothing(share: Share) -> None:
    """Need nothing but the connection itself."""
