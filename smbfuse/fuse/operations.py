"""What the kernel asks, handed to the filesystem and back. No logic: `boundary` checks, `vfs` decides.

Requests that are not here are answered ENOSYS by pyfuse3, which ends them for the mount: extended attributes (asked for
before every write, and not shown yet), locks (the kernel keeps them itself), the flush at each close (nothing is ever
unsaved). What would write never comes: the mount is `ro`, and the kernel answers EROFS.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FlagT, InodeT, ModeT, RequestContext, StatvfsData

from smbfuse.fuse import boundary
from smbfuse.fuse.boundary import at_once, total
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

_DOTS = (b".", b"..")


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `greeted` is set when the kernel has been answered its first message."""

    supports_dot_lookup = False  # only NFS servers look up '.' and '..'; they keep to paths
    enable_writeback_cache = False

    def __init__(self, filesystem: Filesystem, *, patience_s: float) -> None:
        super().__init__()
        self.patience_s = patience_s
        self.greeted = trio.Event()
        self._filesystem = filesystem

    def init(self) -> None:
        self.greeted.set()

    @total
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return boundary.entry_attributes(await self._filesystem.lookup(parent_inode, name), absent=True)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        # The kernel expects no answer, and pyfuse3 no exception.
        try:
            self._filesystem.forget(inode_list)
        except Exception:
            log.exception("forget failed: this is a bug")

    @total
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return boundary.entry_attributes(await self._filesystem.getattr(inode))

    @total
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return bool(await self._filesystem.access(inode, mode, ctx.uid, boundary.caller_groups(ctx)))

    @total
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return boundary.link_target(await self._filesystem.readlink(inode))

    @total
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return boundary.handle(await self._filesystem.opendir(inode))

    @total
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for name, attributes, cookie in boundary.listing(await self._filesystem.readdir(fh, start_id)):
            if not pyfuse3.readdir_reply(token, name, attributes, cookie):
                break
            if name not in _DOTS:
                self._filesystem.accepted(attributes.st_ino)

    @at_once
    async def releasedir(self, fh: FileHandleT) -> None:
        await self._filesystem.releasedir(fh)

    @total
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return boundary.file_info(await self._filesystem.open(inode, flags))

    @total
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return boundary.payload(await self._filesystem.read(fh, off, size), size)

    @at_once
    async def release(self, fh: FileHandleT) -> None:
        await self._filesystem.release(fh)

    @total
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        return boundary.statvfs(await self._filesystem.statfs())
