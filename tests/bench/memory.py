"""A filesystem that answers from memory, by pyfuse3 alone: python memory.py MOUNTPOINT TREE.

TREE is a JSON file of paths and sizes, null for a folder. Files read as zeros; what is written is counted and dropped.
What it reaches is the limit of the kernel, of pyfuse3 and of the Python between them.
"""

import errno
import json
import os
import stat
import sys
from pathlib import PurePosixPath
from typing import Final

import pyfuse3
import trio

BELIEVED_S: Final = 300.0
LARGEST: Final = 1 << 20
ZEROS: Final = bytes(LARGEST)


class File:
    """A file, or a folder if it has `children`."""

    def __init__(self, ino: int, size: int | None) -> None:
        self.ino = ino
        self.size = size or 0
        self.children: dict[bytes, File] | None = {} if size is None else None

    def attributes(self) -> pyfuse3.EntryAttributes:
        """Return what stat(2) shows."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(self.ino)
        entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o644 if self.children is None else stat.S_IFDIR | 0o755)
        entry.st_nlink, entry.st_uid, entry.st_gid = 1, os.getuid(), os.getgid()
        entry.st_size, entry.st_blksize, entry.st_blocks = self.size, 4096, self.size // 512
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = 0
        entry.entry_timeout = entry.attr_timeout = BELIEVED_S
        return entry


class MemoryFilesystem(pyfuse3.Operations):
    """The tree."""

    def __init__(self, sizes: dict[str, int | None]) -> None:
        super().__init__()
        self._files = {pyfuse3.ROOT_INODE: File(pyfuse3.ROOT_INODE, None)}
        by_path = {PurePosixPath(): self._files[pyfuse3.ROOT_INODE]}
        for text, size in sorted(sizes.items()):
            path = PurePosixPath(text)
            by_path[path] = self._add(by_path[path.parent], os.fsencode(path.name), size)

    def _add(self, folder: File, name: bytes, size: int | None) -> File:
        file = File(len(self._files) + 2, size)
        self._files[pyfuse3.InodeT(file.ino)] = file
        assert folder.children is not None
        folder.children[name] = file
        return file

    def _children(self, ino: pyfuse3.InodeT) -> dict[bytes, File]:
        children = self._files[ino].children
        assert children is not None
        return children

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        file = self._children(parent_inode).get(name)
        if file is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return file.attributes()

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._files[inode].attributes()

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        if fields.update_size:
            self._files[inode].size = attr.st_size
        return self._files[inode].attributes()

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        children = list(self._children(pyfuse3.InodeT(fh)).items())
        for number, (name, file) in enumerate(children[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), file.attributes(), number):
                break

    async def open(self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        length = max(0, min(size, self._files[pyfuse3.InodeT(fh)].size - off))
        return ZEROS if length == LARGEST else ZEROS[:length]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        file = self._files[pyfuse3.InodeT(fh)]
        file.size = max(file.size, off + len(buf))
        return len(buf)

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        file = self._add(self._files[parent_inode], name, 0)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(file.ino)), file.attributes()

    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return self._add(self._files[parent_inode], name, None).attributes()

    async def unlink(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        del self._children(parent_inode)[name]

    async def rmdir(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        del self._children(parent_inode)[name]

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        return


def main() -> None:
    """Serve until it is unmounted."""
    point, tree = sys.argv[1:]
    with open(tree, encoding="utf-8") as file:
        sizes = json.load(file)
    pyfuse3.init(MemoryFilesystem(sizes), point, {*pyfuse3.default_options, "fsname=memory"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
