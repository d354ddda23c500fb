"""Reads that one block in memory does not answer: what is fetched for them, and what is laid over it."""

import errno as posix

import trio

from smbfuse.errors import SmbError
from smbfuse.vfs.attrs import Lifetimes
from smbfuse.vfs.blocks import GRAIN, BlockCache, Spawn
from smbfuse.vfs.bypath import renew_unasked
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.sharedfile import IN_FLIGHT, MOST_AHEAD, SPARE_REQUESTS, UNKNOWN, Handle, SharedFile

_UNKNOWN_PAGES = hash(UNKNOWN)


class Reading:
    """Joins open files to the block cache and their read-ahead."""

    def __init__(self, nodes: NodeTable, blocks: BlockCache, lifetimes: Lifetimes, spawn: Spawn) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._lifetimes = lifetimes
        self._spawn = spawn
        self._renewing: set[int] = set()  # inodes whose attributes are being asked for

    async def missing(self, handle: Handle, offset: int, end: int) -> memoryview | bytes:
        """Read what is not, or not all, in one block."""
        file = handle.file
        data = file.data
        self._blocks.misses += 1
        if data.version is UNKNOWN:
            file.node.pages = _UNKNOWN_PAGES  # the kernel has some now: to be dropped with the next version
        wanted = (offset - offset % GRAIN, min(end + -end % GRAIN, file.size))
        blocks, fresh = data.claim(*wanted, file.read_request)
        fetching = None
        if len(fresh) == 1:
            fetching = self._blocks.fetch_here(fresh[0], file)
        else:
            self._blocks.fetch(fresh, file, ahead=False)
        self.ahead(handle, offset, end)
        if fetching is not None:
            await fetching
        result = await self._blocks.gather(blocks, offset, end)
        if len(result) < end - offset and data is file.data:
            await self._check_end(file, offset + len(result))
        return result

    def ahead(self, handle: Handle, offset: int, end: int) -> None:
        """Fetch what will be read next, by the looks of it."""
        file = handle.file
        limits = file.share.limits
        requests = max(1, limits.in_flight - SPARE_REQUESTS)
        most = min(IN_FLIGHT, requests * file.read_request, MOST_AHEAD * limits.request)
        room = min(self._blocks.room(), most - file.data.pending)
        handle.readahead.request = file.read_request
        for start, stop in handle.readahead.advise(offset, end, file.server_size, max(0, room)):
            _, fresh = file.data.claim(start, stop, file.read_request)
            self._blocks.fetch(fresh, file, ahead=True)
            self._renew_soon(file.node)

    def _renew_soon(self, node: Node) -> None:
        """Ask for the attributes of a file that is read on and on, before they are no longer good.

        The kernel asks for them as often as it may believe them, and reads nothing until it has an answer.
        """
        lifetime_s = self._lifetimes.attributes_s
        if node.ino in self._renewing or not lifetime_s:
            return
        if self._lifetimes.left(node.asked.at, trio.current_time()) < lifetime_s / 2:
            self._renewing.add(node.ino)
            self._nodes.pin(node)
            self._spawn(self._renew, node)

    async def _renew(self, node: Node) -> None:
        try:
            await renew_unasked(self._nodes, node)
        finally:
            self._renewing.discard(node.ino)
            self._nodes.unpin(node)

    async def over(self, handle: Handle, offset: int, end: int) -> memoryview | bytes:
        """Read while there are bytes that are not on the server yet: they are laid over what the server has.

        What was never written is zeros: the server's file may end before it.
        Cost: none if all of it was written here, else as any read.
        """
        file = handle.file
        pieces = file.writes.overlay(offset, end)
        if pieces and pieces[-1].start <= offset and end <= pieces[-1].end:
            start = pieces[-1].start
            return memoryview(pieces[-1].data)[offset - start : end - start]
        if file.can(read=True, write=False) and offset < file.server_size:
            result = bytearray(end - offset)
            data = file.data
            stop = min(end, file.server_size)
            blocks, fresh = data.claim(offset, stop, file.read_request)
            self._blocks.fetch(fresh, file, ahead=False)
            below = await self._blocks.gather(blocks, offset, stop)
            result[: len(below)] = below
        else:
            result = bytearray(end - offset)
        for piece in pieces:
            result[piece.start - offset : piece.end - offset] = piece.data
        return memoryview(result)

    async def uncached(self, file: SharedFile, offset: int, length: int) -> memoryview | bytes:
        """Read from the server, whatever is here; several requests at once."""
        blocks, fresh = self._blocks.passing(file.data.version).claim(offset, offset + length, file.read_request)
        self._blocks.fetch(fresh, file, ahead=False)
        return await self._blocks.gather(blocks, offset, offset + length)

    async def _check_end(self, file: SharedFile, end: int) -> None:
        """Find out why a file ended before its known size: only a file that was cut may read short.

        The handle is asked: the file may have lost its name, or another may have it.
        Cost: 1 round trip.
        Raises: SmbError with EIO if the server still says that there is more, and as `OpenFile.refresh`.
        """
        known, handle = file.data.version, file.readable
        if handle is None:
            return
        asked = self._nodes.ask(trio.current_time())
        with handle as server:
            stat = await server.refresh()
        self._nodes.told(file.node, stat, asked)
        if file.data.version == known and end < file.server_size:
            size = file.server_size
            raise SmbError(f"{file.path!r} ends at byte {end}, says the server, and has {size}", errno=posix.EIO)
