"""Open files of a share over SMB2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.smb2_changes import changing
from smbfuse.client.smb2_tree import succeeded
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import ConnectionLost, ProtocolError, Timeout
from smbfuse.share import Buffer, Caching, Change, DurableOpen, FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.create import CreateAction, CreateResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.io import FlushRequest, decode_read, decode_write, encode_read, encode_write

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree


# Before what a server still has in hand, from an earlier connection, is asked once more.
PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6)


class Smb2File:
    """One open file. Implements `share.OpenFile`. `durable`: it may outlive its connection."""

    def __init__(
        self, tree: Smb2Tree, created: CreateResponse, path: str, *, writes: bool, durable: DurableOpen | None = None
    ) -> None:
        self.stat = tree.opened(created)
        self._writes = self.stat.file_id if writes else 0  # the file's number on disk; 0: not open to write, or unknown
        self.created = created.create_action == CreateAction.CREATED
        self.first: memoryview | None = None
        self._tree = tree
        self._opened = created
        self._file_id = created.file_id
        self._path = path
        self._durable = durable
        self._closed = False
        tree.grants.delivered(created.file_id)
        if self._writes:
            tree.nameless.opened(self._writes)

    def __repr__(self) -> str:
        return f"<Smb2File {self._path!r} {'closed' if self._closed else self._file_id.hex()}>"

    @property
    def caching(self) -> Caching:
        return self._tree.grants.caching(self._file_id)

    async def read(self, offset: int, length: int) -> memoryview:
        """Read in one request; see `OpenFile.read`.

        Cost: 1 round trip, a credit for each 64 KiB, no copy. Shorter where the server gives too few credits.
        """
        length = min(length, self._tree.largest_read())
        request = Request(Command.READ, encode_read(self._file_id, offset, length), payload=length)
        reply = await self._tree.wait(self._tree.queue(request, bulk=True))
        return self.data_of(reply, length)

    def data_of(self, reply: Reply, length: int) -> memoryview:
        """Return the data of the reply to a READ of `length` bytes, an empty view at the end of the file."""
        if reply.status == NtStatus.END_OF_FILE:
            return memoryview(b"")
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, Command.READ.name, self._path)
        data = decode_read(reply.element).toreadonly()
        if len(data) > length:
            raise ProtocolError(f"READ {self._path!r}: {len(data)} bytes, {length} were asked for")
        return data

    async def write(self, offset: int, data: Sequence[Buffer]) -> int:
        """Write in one request; see `OpenFile.write`.

        Cost: 1 round trip, a credit for each 64 KiB; no copy but under encryption by CCM. Fewer bytes are written where
        the server gives too few credits for all of them.
        """
        pieces, length = _cut(data, self._tree.largest_write())
        body = encode_write(self._file_id, offset, length)
        request = Request(Command.WRITE, body, payload=length, data=pieces)
        reply = await self._once(request, (Command.WRITE, offset), bulk=True)
        count = decode_write(succeeded(reply, Command.WRITE, self._path).element)
        if count > length or (length and not count):
            raise ProtocolError(f"WRITE {self._path!r}: {count} bytes were taken of {length}")
        return count

    async def flush(self) -> None:
        """Have the server put what was written on its disk; see `OpenFile.flush`.  Cost: 1 round trip."""
        await self._tree.ask(Request(Command.FLUSH, FlushRequest(self._file_id).encode()), self._path)

    async def refresh(self) -> FileStat:
        """Return the attributes by the handle; see `OpenFile.refresh`.  Cost: 1 round trip."""
        reply = await self._tree.wait(self._tree.queue(self._tree.query(self._file_id)))
        found = self._tree.stat_of(reply, self._opened, self._path)
        return found._replace(kind=self.stat.kind) if self._tree.manner.is_vague(found) else found

    async def change(self, change: Change) -> None:
        """Change attributes by the handle; see `OpenFile.change`.

        Cost: 1 round trip for size, 1 for times and DOS attributes, 1 each for owners and mode: in this order, because
        each may move what the next one sets.
        """
        _, requests = changing(self._tree, self._path, change, file_id=self._file_id)
        for number, request in enumerate(requests):
            succeeded(await self._once(request, (request.command, number)), request.command, self._path)

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break; see `OpenFile.acknowledge`."""
        self._tree.grants.acknowledge(self._file_id, remaining)

    async def stand_aside(self) -> None:
        """Do nothing: every open here shares deletion; see `OpenFile.stand_aside`."""

    async def aclose(self) -> None:
        """Give the handle back; see `OpenFile.aclose`."""
        self.close()

    def close(self) -> None:
        """Do what `aclose` does: it has nothing to wait for."""
        if not self._closed:
            self._closed = True
            exchange = self._tree.close(self._file_id)
            if self._durable is not None:
                self._tree.durability.closed(self._durable, self._file_id, self._path, exchange)
            if self._writes:
                self._tree.nameless.closed(self._writes)

    async def _once(self, request: Request, key: object, *, bulk: bool = False) -> Reply:
        """Send what changes the file; if an earlier connection was lost over the same, say so.

        `key` tells the same by. What the server still has in hand from then is asked again after a while: it says
        FILE_NOT_AVAILABLE until it is done.  [MS-SMB2] 3.2.5.12, 3.3.5.2.10
        """
        tree, durable = self._tree, self._durable
        if durable is None or tree.durability.version < 2:
            return await tree.wait(tree.queue(request, bulk=bulk))
        if key in durable.unanswered:
            request = request._replace(replay=True)
        pauses = iter(PAUSES_S)
        while True:
            exchange = tree.queue(request, bulk=bulk)
            try:
                reply = await tree.wait(exchange)
            except (ConnectionLost, Timeout):
                if exchange.sent:
                    durable.unanswered.add(key)
                raise
            pause = next(pauses, None) if reply.status == NtStatus.FILE_NOT_AVAILABLE else None
            if pause is None:
                durable.unanswered.discard(key)
                return reply
            await trio.sleep(pause)
            request = request._replace(replay=True)


def _cut(data: Sequence[Buffer], most: int) -> tuple[list[Buffer], int]:
    """Return the pieces that fit in `most` bytes, the last one cut, and how many bytes they are; nothing is copied."""
    pieces: list[Buffer] = []
    left = most
    for piece in data:
        if len(piece) >= left:
            pieces.append(memoryview(piece)[:left])
            return pieces, most
        pieces.append(piece)
        left -= len(piece)
    return pieces, most - left
