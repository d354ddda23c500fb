"""The filesystem, by the names of its system calls.

It holds no lock: whoever waits for the server waits alone, and what is known is answered at once however many wait.
Whatever is fetched for more than one caller is fetched by tasks of `run`, so that a caller who is cancelled takes
nothing from the others. What changes state is a plain `def`.

Every method raises SmbError only; its `errno` is for the caller.
"""

import errno as posix
import math
from collections.abc import Awaitable, Callable, Collection, Sequence

import trio

from smbfuse.config import Cache, View
from smbfuse.errors import NotFound, SmbError
from smbfuse.share import FileStat, Kind, ShareSource, Space
from smbfuse.vfs.attrs import AbsentNames, Lifetimes
from smbfuse.vfs.blocks import BlockCache
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Node
from smbfuse.vfs.lookup import Lookup, is_server_root, make_root
from smbfuse.vfs.modes import Appearance, allowed
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import ABSENT, ROOT_INO, Entry, FilesystemStatistics, KernelCache, Listed, Opened
from smbfuse.vfs.space import SpaceCache
from smbfuse.vfs.speculation import Speculation
from smbfuse.vfs.symlinks import show_target


class Filesystem:
    """A share, or a whole server, as a tree of inodes.

    `async with trio.open_nursery() as nursery: await nursery.start(filesystem.run)`; then the system calls may come.
    `kernel` is told what the kernel must forget; `source` is not closed.
    """

    def __init__(self, source: ShareSource, cache: Cache, view: View, kernel: KernelCache) -> None:
        self._source = source
        self._cache = cache
        self._view = view
        self._kernel = kernel
        self._appearance = Appearance(view)
        self._lifetimes = Lifetimes(cache)
        self._absent = AbsentNames()
        self._blocks = BlockCache(cache.size, self._spawn)
        self._space = SpaceCache(source, self._spawn)
        # Set by `run`: what the root is depends on the share.
        self._nursery: trio.Nursery
        self._nodes: NodeTable
        self._files: OpenFiles
        self._directories: OpenDirectories
        self._lookup: Lookup
        self._speculation: Speculation

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started once the root has been listed, or connected to for a whole server.

        Cost of the start: 1 round trip, 2 where a listing does not tell of the folder itself.
        Raises: SmbError if the root cannot be read.
        """
        refused: SmbError | None = None
        async with trio.open_nursery() as self._nursery:
            try:
                await self._start()
            except SmbError as error:
                refused = error  # raised outside the nursery, which would wrap it
                self._nursery.cancel_scope.cancel()
            else:
                task_status.started()
                await trio.sleep_forever()
        if refused is not None:
            raise refused

    async def _start(self) -> None:
        self._nodes = NodeTable(await make_root(self._source, self._view), self)
        self._files = OpenFiles(self._nodes, self._blocks, self._cache, self._lifetimes, self._spawn)
        self._directories = OpenDirectories(self._nodes, self._absent, self._lifetimes, self._spawn, self._entry)
        self._speculation = Speculation(
            self._nodes, self._directories, self._files, self._blocks, self._lifetimes, self._spawn
        )
        self._lookup = Lookup(
            self._source, self._view, self._nodes, self._absent, self._lifetimes, self._directories, self._speculation
        )
        if self._source.whole_server:
            return
        # An `ls` that follows finds this listing; and a mount whose root cannot be listed is none.
        self._directories.release(await self._directories.open(self._nodes.root))
        if self._nodes.root.asked.at == -math.inf:
            await self.getattr(ROOT_INO)  # the listing did not tell of the folder itself

    # -- names and attributes

    async def lookup(self, parent: int, name: bytes) -> Entry:
        """Return what a name stands for and count one lookup of it; `stat.ino` 0: nothing, to be kept as well.

        Cost: 1 round trip; none while what is known of the name is good. A name that only a listing can tell (see
        `names.needs_listing`) may cost the listing.
        Raises: SmbError with ESTALE or ENOTDIR for the folder, and as `Share.stat`.
        """
        folder = self._nodes.folder(parent)
        if name in (b".", b".."):
            node: Node | None = folder if name == b"." else folder.parent or folder
        else:
            node = await self._lookup.find(folder, name)
        if node is None:
            return Entry(ABSENT, 0, self._lifetimes.attributes_s, 0.0)
        self._nodes.count(node)
        return self._entry(node)

    async def getattr(self, ino: int) -> Entry:
        """Return the attributes of an inode.

        A file that lost its name on the server shows what was last known, with no links, while it is open.
        Cost: 1 round trip; none while the attributes are good.
        Raises: SmbError with ESTALE (look the name up again), and as `Share.stat`.
        """
        node = self._nodes.get(ino)
        if self._lookup.is_fresh(node):
            self._lookup.hits += 1
            return self._entry(node)
        self._lookup.misses += 1
        asked = self._nodes.ask(trio.current_time())
        try:
            home, path = self._nodes.locate(node)
            if self._nodes.refresh(node, await home.share.stat(path), asked):
                return self._entry(node)
        except SmbError as error:
            if isinstance(error, NotFound):
                self._nodes.lost(node, asked)
            if error.errno not in (posix.ENOENT, posix.ESTALE) or not self._files.is_open(node):
                raise
        if self._files.is_open(node):
            return self._entry(node)
        raise SmbError(f"{node.name!r} is no longer there", errno=posix.ESTALE)

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
        home, path = self._nodes.locate(node)
        target = await home.share.read_link(path)
        return show_target(target, depth=path.count("/"), names=home.names, contain=self._view.contain_symlinks)

    async def statfs(self) -> Space:
        """Return the room on the share's volume; on the first connected share's for a whole server.

        Answers within half a second whenever an older figure is known: `df` must not hang with the server.
        Cost: 1 round trip at most every 2 s, whoever asks.
        Raises: as `Share.space`, if no figure was ever known.
        """
        return await self._space.get()

    # -- folders

    async def opendir(self, ino: int) -> int:
        """Open a folder and return its handle, with the first entries at hand.

        Cost: 1 round trip; none while a listing of the folder is good.
        Raises: SmbError with ENOTDIR, ESTALE, and as `Share.open_directory`.
        """
        folder = self._nodes.folder(ino)
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

    async def releasedir(self, fh: int) -> None:
        """Close a folder. Waits for nothing."""
        self._directories.release(fh)

    # -- files

    async def open(self, ino: int, flags: int) -> Opened:
        """Open a file for reading; see `OpenFiles.open`."""
        node = self._nodes.get(ino)
        opened = await self._files.open(node, flags)
        self._speculation.opened(node)
        return opened

    async def read(self, fh: int, offset: int, length: int) -> memoryview | bytes:
        """Read from an open file; see `OpenFiles.read`."""
        return await self._files.read(fh, offset, length)

    async def release(self, fh: int) -> None:
        """Close an open file. Waits for nothing."""
        self._files.release(fh)

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
            absent_names=len(self._absent),
            attribute_hits=self._lookup.hits,
            attribute_misses=self._lookup.misses,
            listing_hits=self._directories.hits,
            listing_misses=self._directories.misses,
            blocks=self._blocks.statistics(),
            speculation=self._speculation.statistics(),
            shares=tuple(share.name for share in self._source.connected()),
        )

    # -- what the node table finds out

    def content_changed(self, node: Node, stat: FileStat) -> None:
        """Let go of what was kept of a file's former content."""
        if not self._files.content_changed(node, stat):
            self._blocks.drop(node.ino)
            if node.pages is None:
                return
        node.pages = None
        self._kernel.invalidate_inode(node.ino, False)

    def name_gone(self, folder_ino: int, shown: bytes) -> None:
        """Let the kernel ask again for a name, and us."""
        self._directories.doubt(folder_ino, shown)
        self._kernel.invalidate_entry(folder_ino, shown)

    def node_gone(self, ino: int) -> None:
        """Let go of what was kept under a number: it may be another file's soon."""
        self._blocks.drop(ino)

    # -- inside

    def _spawn(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        self._nursery.start_soon(function, *arguments)

    def _entry(self, node: Node) -> Entry:
        known = node.known()
        stat = self._appearance.posix(node.ino, known.stat)
        if self._nodes.nameless(node):
            stat = stat._replace(nlink=0)
        left_s = self._lifetimes.left(known.asked.at, trio.current_time())
        return Entry(stat, known.generation, left_s, left_s)
