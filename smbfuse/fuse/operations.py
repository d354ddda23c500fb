"""What the kernel asks, handed to the filesystem and back. No logic: `boundary` checks, `vfs` decides.

Requests that are not here are answered ENOSYS by pyfuse3, which ends them for the mount: extended attributes, unless
the mount shows them (`xattrs.py`), and locks, which the kernel keeps itself. On a read-only mount nothing that would
write ever comes: the kernel answers EROFS.

The kernel has already taken the umask off the mode of what is made; the caller's umask comes along all the same.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FlagT,
    InodeT,
    ModeT,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from smbfuse.fuse import boundary
from smbfuse.fuse.boundary import at_once_if, total, unawaited, untimed
from smbfuse.fuse.callers import is_renaming
from smbfuse.fuse.gate import Gate
from smbfuse.vfs.filesystem import Filesystem

log = logging.getLogger(__name__)

_DOTS = (b".", b"..")


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `greeted` is set when the kernel has been answered its first message.

    `writeback`: the kernel may keep what is written in its pages, and write when it sees fit. It then believes its own
    sizes and times of files that it knows, and no longer ours.
    """

    supports_dot_lookup = False  # only NFS servers look up '.' and '..'; they keep to paths

    def __init__(self, filesystem: Filesystem, *, patience_s: float, writeback: bool = False) -> None:
        super().__init__()
        self.patience_s = patience_s
        self.gate = Gate()
        self.enable_writeback_cache = writeback
        self.greeted = trio.Event()
        self._filesystem = filesystem

    def init(self) -> None:
        self.greeted.set()

    # -- names and attributes

    @total
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        entry = await self._filesystem.lookup(parent_inode, name, lambda: is_renaming(ctx.pid))
        return boundary.entry_attributes(entry, absent=True)

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
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        new = boundary.new_attributes(attr, fields)
        return boundary.entry_attributes(await self._filesystem.setattr(inode, new, fh))

    @total
    async def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        return bool(await self._filesystem.access(inode, mode, ctx.uid, boundary.caller_groups(ctx)))

    @total
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return boundary.link_target(await self._filesystem.readlink(inode))

    @total
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        return boundary.statvfs(await self._filesystem.statfs())

    # -- making, removing, renaming

    @total
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        made = await self._filesystem.mknod(parent_inode, name, mode, rdev, boundary.caller(ctx))
        return boundary.entry_attributes(made)

    @total
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        made = await self._filesystem.mkdir(parent_inode, name, stat.S_IMODE(mode), boundary.caller(ctx))
        return boundary.entry_attributes(made)

    @total
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        made = await self._filesystem.symlink(parent_inode, name, target, boundary.caller(ctx))
        return boundary.entry_attributes(made)

    @total
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return boundary.entry_attributes(await self._filesystem.link(inode, new_parent_inode, new_name))

    @total
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._filesystem.unlink(parent_inode, name)

    @total
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        await self._filesystem.rmdir(parent_inode, name)

    @total
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._filesystem.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    # -- folders

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

    @total
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._filesystem.fsyncdir(fh, datasync)

    @unawaited
    async def releasedir(self, fh: FileHandleT) -> None:
        await self._filesystem.releasedir(fh)

    # -- files

    @total
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return boundary.file_info(await self._filesystem.open(inode, flags, ctx.pid))

    @total
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        entry, opened = await self._filesystem.create(
            parent_inode, name, stat.S_IMODE(mode), flags, boundary.caller(ctx)
        )
        return boundary.file_info(opened), boundary.entry_attributes(entry)

    def _at_hand(self, fh: FileHandleT, off: int, size: int) -> bytes | None:
        data = self._filesystem.at_hand(fh, off, size)
        return None if data is None else boundary.payload(data, size)

    @at_once_if(_at_hand)
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return boundary.payload(await self._filesystem.read(fh, off, size), size)

    @untimed
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return boundary.written(await self._filesystem.write(fh, off, buf), len(buf))

    @untimed
    async def flush(self, fh: FileHandleT) -> None:
        # At each close of a descriptor. pyfuse3 cannot tell the kernel that a file opened for reading needs none; the
        # filesystem answers that one from memory.
        await self._filesystem.flush(fh)

    @untimed
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._filesystem.fsync(fh, datasync)

    @unawaited
    async def release(self, fh: FileHandleT) -> None:
        await self._filesystem.release(fh)
