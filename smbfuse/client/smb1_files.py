"""Open files of an SMB1 share: read and written, and opened again where the way they were opened is in the way.

[MS-CIFS] 3.2.4.7, 3.2.4.8, 3.2.4.14, 3.2.4.15; [MS-SMB] 3.2.4.4, 3.2.4.5. How they are opened: `smb1_opening.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client.smb1_changes import change_file, too_far
from smbfuse.client.smb1_open import Way, best_way, close
from smbfuse.client.smb1_opening import Handle, open_handle, read_request
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import ProtocolError, SessionGone, StaleHandle, StatusError
from smbfuse.share import Buffer, Caching, Change, Creation, FileStat, OpenIntent, creation_differs
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.io import decode_read
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.write import FlushRequest, Write, decode_written

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

log = logging.getLogger(__name__)

SHORT_OFFSETS_END: Final = 1 << 32  # without CAP_LARGE_FILES


class Smb1File:
    """One open file. Implements `share.OpenFile`."""

    def __init__(self, tree: Smb1Tree, path: str, intent: OpenIntent, handle: Handle) -> None:
        self.stat = handle.stat
        self.created = handle.created
        self.first = handle.first
        self._tree = tree
        self.path = path  # follows renames of ours
        self.writes = intent.write or intent.truncate
        self._intent = intent
        self._handle = handle
        self._swapping = trio.Lock()
        self._cut_short: tuple[int, int] | None = None  # a read that brought less than asked for: its end, its length
        tree.open_files.add(self)

    def __repr__(self) -> str:
        return f"<Smb1File {self.path!r} {self._handle!r}>"

    @classmethod
    async def open(cls, tree: Smb1Tree, path: str, intent: OpenIntent) -> Smb1File:
        """Open or make a file; see `Share.open` and `open_handle`."""
        return cls(tree, path, intent, await open_handle(tree, path, intent))

    @property
    def caching(self) -> Caching:
        """What may be kept now; see `OpenFile.caching`. A handle of OPEN_ANDX gives no more than READ."""
        return self._handle.oplock.caching if self._handle.oplock is not None else Caching.NONE

    async def read(self, offset: int, length: int) -> memoryview:
        """Read one piece; see `OpenFile.read`."""
        tree = self._tree
        length = min(length, tree.largest_read)
        with self._handle as fid:
            reply = await tree.perform_one(tree.submit(read_request(tree, fid, offset, length), moves=length))
        if reply.status == NtStatus.END_OF_FILE:
            return memoryview(b"")
        if reply.status not in (NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW):
            raise status.error(reply.status, "READ_ANDX", self.path)
        data = decode_read(reply.block)
        if len(data) > length:
            raise ProtocolError(f"READ_ANDX of {length} bytes brought {len(data)}")
        self._learn_largest_read(offset, length, len(data))
        return data

    async def write(self, offset: int, data: Sequence[Buffer]) -> int:
        """Write one run; see `OpenFile.write`. What is beyond `limits.write` is left for another call.

        Raises besides: Unsupported (EFBIG: beyond 4 GiB on a server that cannot count so far).
        """
        tree = self._tree
        length = sum(map(len, data))
        most = tree.largest_write
        if length > most:
            data, length = _first_bytes(data, most), most
        if not length:
            return 0
        large_files = tree.has(Capabilities.LARGE_FILES)
        if not large_files and offset + length > SHORT_OFFSETS_END:
            raise too_far("the server writes no more than 4 GiB of a file")
        with self._handle as fid:
            exchange = tree.submit(Write(fid, offset, length, large_files), payload=data, moves=length)
            reply = await tree.perform_one(exchange)
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "WRITE_ANDX", self.path)
        written = decode_written(reply.block, length)
        if not written:
            # Success, and not a byte of it: servers of OS/2's kind say so that the disk is full.
            raise status.error(NtStatus.DISK_FULL, "WRITE_ANDX", self.path)
        return written

    async def flush(self) -> None:
        """Have it on the server's disk; see `OpenFile.flush`."""
        with self._handle as fid:
            await self._tree.succeed(self._tree.submit(FlushRequest(fid)), self.path)

    async def refresh(self) -> FileStat:
        """Return the attributes by handle; see `OpenFile.refresh`."""
        with self._handle as fid:
            return await StatQuery(self._tree, self.path, fid=fid).result()

    async def change(self, change: Change) -> None:
        """Change attributes by handle; see `OpenFile.change` and `change_file`."""
        with self._handle as fid:
            await change_file(self._tree, fid, self.path, change)

    async def acknowledge(self, remaining: Caching) -> None:
        """Answer a break; see `OpenFile.acknowledge`. It counts for every handle of the same holder."""
        if self._intent.holder is not None:
            self._tree.oplocks.answer(self._intent.holder, remaining)

    async def stand_aside(self) -> None:
        """Open the file again in a way that forbids nothing; see `OpenFile.stand_aside`.

        That is due for OPEN_ANDX, and on a server with POSIX opens for everything else than those. A server that knows
        no better than OPEN_ANDX keeps the file as it is: nobody can remove it meanwhile.
        Cost: 3 round trips, or none: the old handle must be seen closed before it is out of the way.
        """
        async with self._swapping:
            before, way = self._handle, best_way(self._tree, plain=False)
            if before.closed or before.way is way or way is Way.ANDX:
                return
            oplock = before.oplock
            if oplock is not None:
                oplock.yielding = True  # the other open that breaks it is our own
            try:
                after = await self._open_again(before)
            finally:
                if oplock is not None:
                    oplock.yielding = False
            if self not in self._tree.open_files:  # closed while we waited
                after.close()
                return
            self._handle = after
            kept = after.oplock.caching if after.oplock is not None else Caching.NONE
            if oplock is not None and oplock.caching & ~kept:
                oplock.holder.broken(kept, acknowledge=False)
            before.close()
            await before.gone()

    async def aclose(self) -> None:
        """Give the handle back; see `OpenFile.aclose`."""
        if not self._handle.closed:
            self._tree.open_files.discard(self)
            self._handle.close()
            for fid in self._tree.deleted_after(self):
                close(self._tree, fid)

    async def _open_again(self, before: Handle) -> Handle:
        """Return another handle of the same file.  Raises StaleHandle if its path does not lead to it any longer."""
        tree = self._tree
        intent = replace(self._intent, creation=Creation.NEVER, truncate=False, first_bytes=0)
        try:
            after = await open_handle(tree, self.path, intent, plain=False)
        except SessionGone:
            raise
        except StatusError as error:
            raise self._stale(f"cannot be opened again: {error}") from error
        if before.closed:
            return after
        try:
            # Of both handles at the same moment: then even times may be compared.
            with before as fid:
                questions = [StatQuery(tree, self.path, fid=one) for one in (fid, after.fid)]
                old, new = [await question.result() for question in questions]
            if not _is_same(old, new):
                raise self._stale("is another file by now")
        except BaseException:
            after.close()
            raise
        return after

    def _stale(self, what: str) -> StaleHandle:
        return StaleHandle(f"{self.path!r} {what}", status=NtStatus.FILE_CLOSED)

    def _learn_largest_read(self, offset: int, wanted: int, brought: int) -> None:
        """Note how much the server reads at once, if it stopped in the middle of a file.

        A file may have become shorter since it was opened: only what comes behind a short read shows that there was
        more to bring.
        """
        if self._cut_short is not None and self._cut_short[0] == offset and brought:
            self._tree.reads_at_most(self._cut_short[1])
            self._cut_short = None
        if brought < wanted and offset + brought < self.stat.size:
            self._cut_short = offset + brought, brought


def _is_same(old: FileStat, new: FileStat) -> bool:
    """Tell whether two handles, asked at the same moment, surely stand for one file.

    Without file ids it takes all that the server tells. A proof that fails because somebody writes just then costs a
    handle; the wrong file would cost more.
    """
    if old.kind != new.kind or old.file_id != new.file_id or creation_differs(old, new):
        return False
    if old.file_id:
        return old.volume_id == new.volume_id
    return old == new


def _first_bytes(data: Sequence[Buffer], length: int) -> list[Buffer]:
    """Return the first `length` bytes of what `data` are the pieces of."""
    pieces: list[Buffer] = []
    for piece in data:
        if length <= 0:
            break
        pieces.append(memoryview(piece)[:length])
        length -= len(pieces[-1])
    return pieces
