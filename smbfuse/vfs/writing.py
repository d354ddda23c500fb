"""Writes and changes of size: which may wait, which go through at once, and what becomes of size and times.

| | exclusive grant | shared grant | none |
|---|---|---|---|
| a write | waits, is sent later | is sent at once | is sent at once; waits with `cache=loose` |
| what is kept of the file, but for the range | stays | stays | goes; stays with `cache=loose` |
| its times until its last close | ours, then set on the server | the server's | the server's; ours with `cache=loose` |

Whatever asks for more is sent at once: O_DIRECT and O_SYNC, and all writes of a file of which the server has refused
some that waited.
"""

import errno as posix
import time

import trio

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import SmbError
from smbfuse.share import Caching, Change
from smbfuse.vfs.filetable import FileTable
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.sharedfile import Handle, SharedFile
from smbfuse.vfs.times import nearest


class Writing:
    """Joins open files to what is to be written of them."""

    def __init__(self, nodes: NodeTable, table: FileTable, cache: Cache) -> None:
        self._nodes = nodes
        self._table = table
        self._loose = cache.mode is CacheMode.LOOSE
        self._strict_sync = cache.strict_sync

    async def write(self, handle: Handle, offset: int, data: bytes) -> int:
        """Write by a handle that may; see `OpenFiles.write`."""
        handle.raise_news()
        file = handle.file
        file.writing += 1
        try:
            return await self._write(handle, offset, data)
        finally:
            file.writing -= 1
            file.write_answered_at = trio.current_time()

    async def _write(self, handle: Handle, offset: int, data: bytes) -> int:
        file = handle.file
        if self._may_wait(handle):
            await self._table.budget.room(len(data))
            if self._may_wait(handle):  # the grant may have gone meanwhile
                offset = file.size if handle.append else offset
                self._note_write(file)
                file.size = max(file.size, offset + len(data))
                file.writes.keep(offset, data)
                return len(data)
        if not handle.append:
            return await self._through(handle, offset, data)
        async with file.appending:
            await file.writes.drain()
            if Caching.WRITE not in file.grant.current:
                await self._ask_size(file)
            return await self._through(handle, file.size, data)

    async def sync(self, file: SharedFile) -> None:
        """Have the server put on its disk what it has of a file, unless it has done so."""
        if not self._strict_sync:
            return
        # Who is second waits for the first one's answer, and asks himself if that was an error.
        async with file.flushing:
            if file.flushed or file.writer is None:
                return
            file.flushed = True  # unless something is written meanwhile
            try:
                with file.writer as server:
                    await server.flush()
            except BaseException:
                file.flushed = False
                raise

    async def resize(self, file: SharedFile, size: int) -> None:
        """Give an open file another size, in its turn among the writes.  Cost: 1 round trip."""
        if file.writer is None:
            raise SmbError(f"{file.path!r} is not open to write", errno=posix.EBADF)
        async with file.writes.cutting(size):
            with file.writer as server:
                await server.change(Change(size=size))
        self._note_write(file)
        self._table.content.resized(file, size)

    def _may_wait(self, handle: Handle) -> bool:
        """Tell whether a write may be kept here: nobody else can see that it is not on the server, or it was agreed."""
        file = handle.file
        allowed = self._loose or Caching.WRITE in file.grant.current
        return allowed and not handle.direct and not handle.sync and file.writes.may_wait

    def _note_write(self, file: SharedFile) -> None:
        """Give a file the time of a write, where nobody else can have written later, or the server does not."""
        server_does_not = file.writer is not None and file.writer.keeps_time
        if self._loose or server_does_not or Caching.WRITE in file.grant.current:
            file.written_ns = nearest(time.time_ns())

    async def _through(self, handle: Handle, offset: int, data: bytes) -> int:
        file = handle.file
        self._note_write(file)
        written = await file.writes.through(offset, data)
        file.size = max(file.size, offset + written)
        if handle.sync:
            await self.sync(file)
        return written

    async def _ask_size(self, file: SharedFile) -> None:
        """Ask where a file ends now: another client may have appended to it."""
        if file.writer is None:
            return
        asked = self._nodes.ask(trio.current_time())
        with file.writer as server:
            stat = await server.refresh()
        self._nodes.told(file.node, stat, asked)
        if file.node.asked.number <= asked.number:  # else it was written here meanwhile: we know better
            file.size = file.server_size = stat.size
