"""The filesystem, by the names of its system calls.

Whoever waits for the server waits alone, and what is known is answered at once however many wait; only changes of one
folder's names take turns. Whatever is fetched for more than one caller is fetched by tasks of `run`, so that a caller
who is cancelled takes nothing from the others. What changes state is a plain `def`.

Every method raises SmbError only; its `errno` is for the caller.
"""

import errno as posix
import math
from collections.abc import Awaitable, Callable, Collection, Sequence

import trio

from smbfuse.config import Cache, View
from smbfuse.errors import SmbError
from smbfuse.share import Kind, Share, ShareSource, Space
from smbfuse.vfs.attrs import AbsentNames, Lifetimes
from smbfuse.vfs.blocks import BlockCache
from smbfuse.vfs.bypath import by_path
from smbfuse.vfs.changes import Changes
from smbfuse.vfs.consequences import Consequences
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.entries import Entries
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import ShareRoot
from smbfuse.vfs.lookup import Lookup, is_server_root, make_root
from smbfuse.vfs.mfsymlinks import MfSymlinkSource
from smbfuse.vfs.modes import allowed
from smbfuse.vfs.namespace import Namespace
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import (
    ABSENT,
    ROOT_INO,
    Caller,
    Entry,
    FilesystemStatistics,
    KernelCache,
    Listed,
    NewAttributes,
    Opened,
    Unsaved,
)
from smbfuse.vfs.remote import RemoteChanges
from smbfuse.vfs.removal import Removal
from smbfuse.vfs.setattr import AttributeChanges
from smbfuse.vfs.space import SpaceCache
from smbfuse.vfs.speculation import Speculation
from smbfuse.vfs.symlinks import show_target
from smbfuse.vfs.xattrs import ExtendedAttributes


class Filesystem:
    """A share, or a whole server, as a tree of inodes.

    `async with trio.open_nursery() as nursery: await nursery.start(filesystem.run)`; then the system calls may come.
    `kernel` is told what the kernel must forget; `source` is not closed.
    """

    def __init__(self, source: ShareSource, cache: Cache, view: View, kernel: KernelCache) -> None:
        self._source = source = MfSymlinkSource(source) if view.mf_symlinks else source
        self._cache = cache
        self._view = view
        self._kernel = kernel
        self._lifetimes = Lifetimes(cache)
        self._absent = AbsentNames()
        self._blocks = BlockCache(cache.size, self._spawn)
        self._space = SpaceCache(source, self._spawn)
        self._over = False
        self._nursery: trio.Nursery  # this and what follows is set by `run`: what the root is depends on the share
        self._nodes: NodeTable
        self._files: OpenFiles
        self._entries: Entries
        self._directories: OpenDirectories
        self._lookup: Lookup
        self._speculation: Speculation
        self._removal: Removal
        self._attributes: AttributeChanges
        self._changes: Changes
        self._xattrs: ExtendedAttributes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started once the root has been listed, or connected to for a whole server.

        Cost of the start: 1 round trip, 2 where a listing does not tell of the folder itself.
        Raises: SmbError if the root cannot be read.
        """
        refused: SmbError | None = None
        try:
            async with trio.open_nursery() as self._nursery:
                try:
                    await self._start()
                except SmbError as error:
                    refused = error  # raised outside the nursery, which would wrap it
                    self._nursery.cancel_scope.cancel()
                else:
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._over = True
        if refused is not None:
            raise refused

    async def _start(self) -> None:
        absent, lifetimes, spawn = self._absent, self._lifetimes, self._spawn
        hears = Consequences(self._blocks, self._kernel)
        self._nodes = hears.nodes = nodes = NodeTable(await make_root(self._source, self._view), hears)
        self._files = hears.files = OpenFiles(nodes, self._blocks, self._cache, lifetimes, spawn, self._kernel)
        self._entries = Entries(nodes, self._files, self._view, lifetimes)
        self._directories = hears.directories = directories = OpenDirectories(
            nodes, absent, lifetimes, self._cache.close_timeout_s, spawn, self._entries.of, self._source
        )
        self._speculation = Speculation(nodes, directories, self._files, self._blocks, lifetimes, spawn)
        remote = RemoteChanges(self._source, nodes, absent, lifetimes, directories, self._kernel, spawn)
        self._lookup = Lookup(
            self._source, self._view, nodes, absent, lifetimes, directories, self._speculation, remote.watch, spawn
        )
        names = Namespace(nodes, absent, self._files, directories, self._lookup, self._speculation)
        self._removal = hears.removal = Removal(self._source, nodes, names, self._files, directories, spawn)
        self._attributes = AttributeChanges(nodes, self._files, self._lookup, self._view)
        self._changes = Changes(nodes, names, self._files, self._removal, self._attributes, self._view, spawn)
        self._xattrs = ExtendedAttributes(nodes, self._view, self.getattr, self._attributes.apply)
        if not isinstance(nodes.root, ShareRoot):
            return
        remote.watch(nodes.root)
        # An `ls` that follows finds this listing; and a mount whose root cannot be listed is none.
        self._directories.release(await self._directories.open(self._nodes.root))
        if self._nodes.root.asked.at == -math.inf:
            await self.getattr(ROOT_INO)  # the listing did not tell of the folder itself

    # -- names and attributes

    async def lookup(self, parent: int, name: bytes, renaming: Callable[[], bool] = lambda: False) -> Entry:
        """Return what a name stands for and count one lookup of it; `stat.ino` 0: nothing, to be kept as well.

        `renaming` tells whether it is asked for to be renamed onto. What is there in another case is then not found:
        the kernel would have nothing to rename where it is the same file, and the server finds it all the same.
        Cost: 1 round trip; none while what is known of the name is good. A name that only a listing can tell (see
        `names.needs_listing`) may cost the listing.
        Raises: SmbError with ESTALE or ENOTDIR for the folder, ENAMETOOLONG, and as `Share.stat`.
        """
        folder = self._nodes.folder(parent)
        node = await self._lookup.find(folder, name)
        if node is None:
            return Entry(ABSENT, 0, self._lookup.absence_left_s(folder, name), 0.0)
        if self._lookup.is_respelled(folder, node, name) and renaming():
            return Entry(ABSENT, 0, 0.0, 0.0)
        return self._entries.counted(node)

    async def getattr(self, ino: int) -> Entry:
        """Return the attributes of an inode.

        A file that lost its name on the server shows what was last known, with no links, while it is open.
        Cost: 1 round trip; none while the attributes are good.
        Raises: SmbError with ESTALE (look the name up again), and as `Share.stat`.
        """
        node = self._nodes.get(ino)
        await self._files.close_now(node)
        try:
            if await self._lookup.renew(node):
                return self._entries.of(node, named=False)
        except SmbError as error:
            if error.errno not in (posix.ENOENT, posix.ESTALE) or not self._files.is_open(node):
                raise
        if self._files.is_open(node):
            return self._entries.of(node, named=False)
        raise SmbError(f"{node.name!r} is no longer there", errno=posix.ESTALE)

    async def setattr(self, ino: int, new: NewAttributes, fh: int | None) -> Entry:
        """Change size, times, mode or owner, and return what is shown then; see `setattr.py` for what is kept of them.

        Cost: 1 round trip each for the size and for the rest; none for a mode that makes no difference.
        Raises: SmbError with EPERM (`modechanges=refuse`, the root of a server), ESTALE, and as `Share.change`.
        """
        node = self._nodes.get(ino)
        await self._attributes.set(node, new, fh)
        return self._entries.of(node, ours=True)

    async def access(self, ino: int, mode: int, uid: int, gids: Collection[int]) -> bool:
        """Tell whether a user may do `mode` (access(2)) by the mode and owner that are shown.

        Cost and errors: as `getattr`.
        """
        return allowed((await self.getattr(ino)).stat, mode, uid, gids)

    async def readlink(self, ino: int) -> bytes:
        """Return the target of a symlink.

        Cost: as `Share.read_link`.
        Raises: SmbError with EINVAL (no symlink), EPERM (it leads outside the share), and as `Share.read_link`.
        """
        node = self._nodes.get(ino)
        if node.stat().kind is not Kind.SYMLINK:
            raise SmbError(f"{node.name!r} is no symlink", errno=posix.EINVAL)

        async def ask(share: Share, path: str) -> tuple[str, int]:
            return await share.read_link(path), path.count("/")

        (target, depth), _ = await by_path(self._nodes, node, ask)
        names = self._nodes.home(node).names
        return show_target(target, depth=depth, names=names, contain=self._view.contain_symlinks)

    async def statfs(self) -> Space:
        """Return the room on the share's volume; on the first connected share's for a whole server.

        Answers within half a second whenever an older figure is known: `df` must not hang with the server.
        Cost: 1 round trip at most every 2 s, whoever asks.
        Raises: as `Share.space`, if no figure was ever known.
        """
        return await self._space.get()

    # -- changes of names

    async def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Entry, Opened]:
        """Open a file by name, made if there is none (with O_EXCL: only then), and count one lookup.

        Cost: 1 round trip.
        Raises: SmbError with EEXIST, EISDIR, ELOOP, ENAMETOOLONG, EINVAL (the server can hold no such name), EPERM (in
        the root of a server), and as `Share.open`.
        """
        node, opened = await self._changes.create(parent, name, mode, flags, caller)
        return self._entries.counted(node), opened

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Entry:
        """Make a file, FIFO, socket or device and count one lookup.

        Cost: 1 round trip.  Raises: SmbError with EPERM (the server has no such files), and as `create`.
        """
        return self._entries.counted(await self._changes.make_node(parent, name, mode, rdev, caller))

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Entry:
        """Make a folder and count one lookup.  Cost: 1 round trip (2 over SMB1).  Raises: as `create`."""
        return self._entries.counted(await self._changes.make_directory(parent, name, mode, caller))

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Entry:
        """Make a symlink and count one lookup.  Cost and errors: as `make_symlink`, and as `create`."""
        return self._entries.counted(await self._changes.make_symlink(parent, name, target, caller))

    async def link(self, ino: int, new_parent: int, new_name: bytes) -> Entry:
        """Give a file a further name and count one lookup.

        Cost: 1 round trip.
        Raises: SmbError with EPERM (a folder, or no `Features.HARD_LINKS`), EXDEV, ENOENT (it has lost its last name),
        and as `create`.
        """
        node = self._nodes.get(ino)
        await self._changes.link(node, new_parent, new_name)
        return self._entries.counted(node)

    async def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name of a file. A file that is open lives on without it until its last close; see `removal.py`.

        Cost: 1 round trip; 2 for an open file on a server without POSIX semantics, 4 for one that is READONLY.
        Raises: SmbError with ENOENT, EISDIR, EPERM (in the root of a server), and as `Share.remove`.
        """
        await self._removal.unlink(parent, name)

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty folder.  Cost: 1 round trip.  Raises: SmbError with ENOTEMPTY, ENOTDIR, and as `unlink`."""
        await self._removal.rmdir(parent, name)

    async def rename(self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """Give a file or folder another name, in the place of what has that name; see `changes.py`.

        Cost: 1 round trip; up to 4 where the server does not replace what is there.
        Raises: SmbError with EEXIST (RENAME_NOREPLACE), EINVAL (other flags; a folder into itself), EXDEV (to another
        share), ENOTEMPTY, EISDIR, ENOTDIR, EACCES (a folder with open files below, by most servers), and as `create`.
        """
        await self._changes.rename(old_parent, old_name, new_parent, new_name, flags)

    # -- folders

    async def opendir(self, ino: int) -> int:
        """Open a folder and return its handle, with the first entries at hand.

        Cost: 1 round trip; none while a listing of the folder is good.
        Raises: SmbError with ENOTDIR, ESTALE, and as `Share.open_directory`.
        """
        folder = self._nodes.folder(ino)
        self._speculation.folders.opened(folder)
        snapshot = await self._lookup.connected_shares(folder) if is_server_root(folder) else None
        return await self._directories.open(folder, snapshot)

    async def readdir(self, fh: int, cookie: int) -> Sequence[Listed]:
        """Return entries behind `cookie` (0: from the start); an empty sequence is the end.

        '.' and '..' come first, with the numbers of the folder and of the one above; they count no lookup. The others
        are not counted here either: `accepted` is to be called for each that the kernel took, before the next call.
        Those it did not take are returned again from the cookie it comes back with.

        Cost: 1 round trip a page of the server, asked for while the one before is being handed out.
        Raises: SmbError with EBADF, and what ended the listing: a folder is never shown shortened.
        """
        return await self._directories.read(fh, cookie)

    def accepted(self, ino: int) -> None:
        """Count one lookup: the kernel took an entry of the last `readdir` ('.' and '..' are not counted)."""
        self._nodes.count(self._nodes.get(ino))

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Return at once: no change of names is ever delayed."""

    async def releasedir(self, fh: int) -> None:
        """Close a folder. Waits for nothing."""
        self._directories.release(fh)

    # -- files

    async def open(self, ino: int, flags: int, thread: int = 0) -> Opened:
        """Open a file, for a thread of a program (0: unknown which); see `OpenFiles.open`."""
        node = self._nodes.get(ino)
        opened = await self._files.open(node, flags, thread)
        self._speculation.opened(node)
        return opened

    async def read(self, fh: int, offset: int, length: int) -> memoryview | bytes:
        """Read from an open file; see `OpenFiles.read`."""
        return await self._files.read(fh, offset, length)

    def at_hand(self, fh: int, offset: int, length: int) -> memoryview | None:
        """Return what `read` would if it need wait for nothing, else None; see `OpenFiles.at_hand`."""
        return self._files.at_hand(fh, offset, length)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write to an open file; see `OpenFiles.write`."""
        return await self._files.write(fh, offset, data)

    async def flush(self, fh: int) -> None:
        """Write out what one close(2) must not lose; see `OpenFiles.flush`."""
        await self._files.flush(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Have the server put a file on its disk; see `OpenFiles.fsync`."""
        await self._files.fsync(fh, datasync)

    async def release(self, fh: int) -> None:
        """Close an open file; see `OpenFiles.release`."""
        await self._files.release(fh)

    async def drain(self, deadline: float, *, ending: bool = True) -> Sequence[Unsaved]:
        """Write everything out, as at the end; see `FileTable.drain`. Returns what could not be saved."""
        unsaved = await self._files.drain(deadline, ending=ending)
        if ending:
            with trio.move_on_at(deadline):
                await self._removal.drain()
        return unsaved

    # -- extended attributes

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        """Return an extended attribute; see `ExtendedAttributes.get`."""
        return await self._xattrs.get(self._nodes.get(ino), name)

    async def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        """Set an extended attribute; see `ExtendedAttributes.set`."""
        await self._xattrs.set(self._nodes.get(ino), name, value, flags)

    async def listxattr(self, ino: int) -> Sequence[bytes]:
        """Return the names of extended attributes; see `ExtendedAttributes.names`."""
        return await self._xattrs.names(self._nodes.get(ino))

    async def removexattr(self, ino: int, name: bytes) -> None:
        """Remove an extended attribute; see `ExtendedAttributes.remove`."""
        await self._xattrs.remove(self._nodes.get(ino), name)

    def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        """Take back lookups: (inode, how many). Never raises."""
        for ino, lookups in inodes:
            self._nodes.forget(ino, lookups)

    def statistics(self) -> FilesystemStatistics:
        """Return a snapshot of sizes and counters."""
        return FilesystemStatistics(
            inodes=len(self._nodes),
            open_files=len(self._files),
            open_directories=len(self._directories),
            unsaved=self._files.unsaved_bytes,
            absent_names=len(self._absent),
            attribute_hits=self._lookup.hits,
            attribute_misses=self._lookup.misses,
            listing_hits=self._directories.hits,
            listing_misses=self._directories.misses,
            blocks=self._blocks.statistics(),
            speculation=self._speculation.statistics(),
            shares=tuple(share.name for share in self._source.connected()),
        )

    # -- inside

    def _spawn(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        if not self._over:  # the connections last longer: a grant may end with one when there is nobody left to care
            self._nursery.start_soon(function, *arguments)
