"""A filesystem over a share in memory, driven without a kernel."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from smbfuse.config import Cache, View
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import Entry, Listed
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource

DEFAULT_CACHE: Final = Cache()


@dataclass
class KernelLog:
    """A kernel that only notes what it was told to forget."""

    inodes: list[tuple[int, bool]] = field(default_factory=list)
    entries: list[tuple[int, bytes]] = field(default_factory=list)
    write_back: dict[int, Callable[[], Awaitable[object]]] = field(default_factory=dict)  # what it writes before

    def invalidate_inode(self, ino: int, attr_only: bool) -> None:
        self.inodes.append((ino, attr_only))

    def invalidate_entry(self, parent_ino: int, name: bytes) -> None:
        self.entries.append((parent_ino, name))

    async def drop_pages(self, ino: int) -> None:
        await trio.lowlevel.checkpoint()
        if ino in self.write_back:
            await self.write_back.pop(ino)()
        self.inodes.append((ino, False))


class Mounted:
    """A running filesystem with what a test needs to drive and watch it."""

    def __init__(self, source: MemSource, cache: Cache, view: View) -> None:
        self.source = source
        self.kernel = KernelLog()
        self.fs = Filesystem(source, cache, view, self.kernel)

    async def find(self, path: str) -> Entry:
        """Look up every name of a path, as the kernel does; the last answer may be "not there"."""
        entry = await self.fs.getattr(1)
        for name in filter(None, path.split("/")):
            entry = await self.fs.lookup(entry.stat.ino, name.encode("utf-8", "surrogatepass"))
        return entry

    async def ino(self, path: str) -> int:
        return (await self.find(path)).stat.ino

    async def entries(self, path: str = "", *, take: int = 25) -> list[Listed]:
        """Read a folder as the kernel does, `take` entries a call, and count the accepted ones."""
        fh = await self.fs.opendir(await self.ino(path))
        entries = await self.drain(fh, take=take)
        await self.fs.releasedir(fh)
        return entries

    async def drain(self, fh: int, cookie: int = 0, *, take: int = 25) -> list[Listed]:
        entries: list[Listed] = []
        while listed := (await self.fs.readdir(fh, cookie))[:take]:
            for entry in listed:
                if entry.name not in (b".", b".."):
                    self.fs.accepted(entry.entry.stat.ino)
            entries += listed
            cookie = listed[-1].next_cookie
        return entries

    async def names(self, path: str = "") -> list[bytes]:
        return [entry.name for entry in await self.entries(path)]

    async def read_all(self, path: str, *, chunk: int = 128 << 10) -> bytes:
        """Open, read to the end, release."""
        opened = await self.fs.open(await self.ino(path), 0)
        parts = []
        offset = 0
        while part := bytes(await self.fs.read(opened.fh, offset, chunk)):
            parts.append(part)
            offset += len(part)
        await self.fs.release(opened.fh)
        return b"".join(parts)


class Mount(Protocol):
    """What the fixture `mount` gives: mounts shares in memory."""

    async def __call__(
        self, *shares: MemShare, cache: Cache = ..., view: View = ..., whole_server: bool = ...
    ) -> Mounted: ...


async def opened(mounted: Mounted, path: str, flags: int = os.O_RDWR) -> int:
    return (await mounted.fs.open(await mounted.ino(path), flags)).fh


async def closed(mounted: Mounted, fh: int) -> None:
    """Close as the kernel does."""
    await mounted.fs.flush(fh)
    await mounted.fs.release(fh)


async def with_open_file(
    mount: Mount, share: MemShare, content: bytes = b"", *, cache: Cache = DEFAULT_CACHE
) -> tuple[Mounted, int]:
    """Mount a share that has a file "f", and open it to read and write."""
    share.add("f", content)
    mounted = await mount(share, cache=cache)
    return mounted, await opened(mounted, "f")
