"""Open files and listings of a share in memory."""

from collections.abc import Sequence
from typing import Protocol

from smbfuse.share import Attributes, Buffer, Caching, Change, DirEntry, FileStat, Kind, Limits
from smbfuse.status import NtStatus, error
from tests.support.mem_disk import SETTABLE, MemDisk, MemNode
from tests.support.mem_grants import EVERYTHING, NOTHING, Grant, contend


class Client(Protocol):
    """What a handle needs of the share that opened it."""

    limits: Limits
    incarnation: int
    disk: MemDisk
    oplocks: bool
    keeps_modes: bool
    page_entries: int
    closes_move_times: bool
    reads: list[tuple[str, int, int]]
    writes: list[tuple[str, int, int]]

    async def perform(self, operation: str, path: str) -> None: ...

    def told(self, node: MemNode, *, listed: bool = False) -> FileStat: ...

    def closed(self, operation: str) -> None: ...


def apply(disk: MemDisk, node: MemNode, change: Change, *, keeps_modes: bool) -> None:
    """Change a node's attributes as a server does.  Raises: Unsupported (modes and owners that it does not keep)."""
    if not keeps_modes and (change.mode, change.uid, change.gid) != (None, None, None):
        raise error(NtStatus.NOT_SUPPORTED, "SET_INFO")
    node.changed_ns = disk.tick()
    if change.size is not None:
        if change.size != len(node.data):
            node.written_ns = node.changed_ns
        node.resize(change.size)
    for name in ("created_ns", "accessed_ns", "written_ns"):
        if (time := getattr(change, name)) is not None:
            setattr(node, name, time - time % 100)
    if change.attributes is not None:
        node.attributes = node.attributes & ~SETTABLE | change.attributes & SETTABLE
    for name in ("mode", "uid", "gid"):
        if (value := getattr(change, name)) is not None:
            setattr(node, name, value)


class Handle:
    """What files and listings have in common: a node that outlives its name, a grant, and the end."""

    def __init__(self, share: Client, path: str, node: MemNode, grant: Grant | None) -> None:
        self.share = share
        self.path = path
        self.node = node
        self.grant = grant
        self.incarnation = share.incarnation
        self.open = True
        node.handles.append(self)

    @property
    def caching(self) -> Caching:
        return self.grant.caching if self.grant is not None and self.alive else NOTHING

    @property
    def alive(self) -> bool:
        """Whether the server still knows the handle."""
        lapsed = self.grant is not None and self.grant.lapsed
        return self.open and self.incarnation == self.share.incarnation and not lapsed

    @property
    def key(self) -> bytes | None:
        return None if self.grant is None else self.grant.holder.key

    async def acknowledge(self, remaining: Caching) -> None:
        await self.share.perform("acknowledge", self.path)
        if self.grant is not None and self.alive:
            self.grant.acknowledge(remaining)

    def forget(self) -> None:
        """Close the handle on the server, with all that the last close does."""
        if not self.open:
            return
        self.open = False
        self.node.handles.remove(self)
        if self.grant is not None:
            self.grant.opens -= 1
            if not self.grant.opens:
                self.node.grants.remove(self.grant)
                self.grant.settle()
        if self.node.delete_pending and not self.node.handles:
            self.share.disk.drop(self.node)


class MemFile(Handle):
    """An open file: it keeps its node whatever happens to the name."""

    def __init__(
        self,
        share: Client,
        path: str,
        node: MemNode,
        grant: Grant | None,
        *,
        first: memoryview | None,
        created: bool,
        writable: bool,
        forbids_deletion: bool,
    ) -> None:
        super().__init__(share, path, node, grant)
        self.stat = share.told(node)
        self.first = first
        self.created = created
        self.writable = writable
        self.forbids_deletion = forbids_deletion
        self._wrote = False
        self._kept_time = False

    async def read(self, offset: int, length: int) -> memoryview:
        assert 0 < length <= self.share.limits.read
        self.share.reads.append((self.path, offset, length))
        await self._perform("read")
        return memoryview(bytearray(self.node.data[offset : offset + length]))

    async def write(self, offset: int, data: Sequence[Buffer]) -> int:
        length = sum(map(len, data))
        assert 0 < length <= self.share.limits.write
        self.share.writes.append((self.path, offset, length))
        await self._perform("write")
        if not self.writable:
            raise error(NtStatus.ACCESS_DENIED, "WRITE", self.path)
        await self._contend()
        written = self.node.overwrite(offset, iter(data))
        self._wrote = True
        if not self._kept_time:
            self.node.written_ns = self.node.changed_ns = self.share.disk.tick()
        return written

    async def flush(self) -> None:
        await self._perform("flush")

    async def refresh(self) -> FileStat:
        stat = self.share.told(self.node)  # as it is when the question arrives, however long the answer takes
        await self._perform("refresh")
        return stat

    async def change(self, change: Change) -> None:
        await self._perform("change_open")
        if change.size is not None:
            if not self.writable:
                raise error(NtStatus.ACCESS_DENIED, "SET_INFO", self.path)
            await self._contend()
        apply(self.share.disk, self.node, change, keeps_modes=self.share.keeps_modes)
        self._kept_time |= change.written_ns is not None

    async def stand_aside(self) -> None:
        if self.forbids_deletion:
            await self._perform("stand_aside")
            self.forbids_deletion = False

    async def aclose(self) -> None:
        self.share.closed("close")
        if self._wrote and self.open and self.share.closes_move_times and not self._kept_time:
            self.node.written_ns = self.node.changed_ns = self.share.disk.tick()
        self.forget()

    async def _perform(self, operation: str) -> None:
        await self.share.perform(operation, self.path)
        if not self.alive:
            raise error(NtStatus.FILE_CLOSED, operation.upper(), self.path)

    async def _contend(self) -> None:
        """Take from the others what they keep of the data: nobody waits for them, they can have written nothing."""
        oplock = self.share.oplocks
        await contend(self.node.grants, EVERYTHING, self.key, waits_for=Caching.WRITE, oplock=oplock)


class MemDirectory(Handle):
    """A listing under way. The first page comes with the open; each further one is a call."""

    def __init__(self, share: Client, path: str, node: MemNode, grant: Grant | None, *, tells: bool) -> None:
        super().__init__(share, path, node, grant)
        self.stat = share.told(node) if tells else None
        self.entries = [DirEntry(name, share.told(child, listed=True)) for name, child in node.children.items()]
        self.at = 0

    async def page(self) -> Sequence[DirEntry]:
        if self.at:
            await self.share.perform("page", self.path)
        page = self.entries[self.at : self.at + self.share.page_entries]
        self.at += len(page)
        return page

    async def aclose(self) -> None:
        self.share.closed("close_directory")
        self.forget()


def refuses_deletion(node: MemNode) -> bool:
    """Tell whether a handle that somebody holds forbids the deletion and renaming of its file."""
    return any(isinstance(handle, MemFile) and handle.forbids_deletion for handle in node.handles)


def is_protected(node: MemNode) -> bool:
    """Tell whether the read-only attribute forbids it."""
    return bool(node.attributes & Attributes.READONLY) and node.kind is not Kind.DIRECTORY
