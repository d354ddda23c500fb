"""What a change of names has in common with every other: whose turn it is, and what must not be believed afterwards.

Changes of one folder's names are made one after the other: two answers that overtake each other could not be told
apart. (The kernel does the same, for each mount; here it holds for a whole server's mount and without a kernel.)
Nobody else waits for them: lookups, listings and reads go on.

After a change, under the name the server has it, and every spelling of it where the server ignores case: what was known
of the name is forgotten, "not there" too; the kernel is told to forget it, but for the one spelling that it has itself
just changed; listings under way leave it in doubt, and questions that were asked before are asked again when their
answer comes. The folder's own attributes, its time of change among them, are asked for anew.
"""

import errno as posix
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import trio

from smbfuse.errors import NotFound, SmbError
from smbfuse.share import FileStat
from smbfuse.vfs.attrs import AbsentNames, Asked
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.file import JOIN_S, OpenFiles
from smbfuse.vfs.inode import Folder, Node, ShareRoot, share_root
from smbfuse.vfs.lookup import Lookup, is_server_root
from smbfuse.vfs.names import NAME_MAX
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.speculation import Speculation

T = TypeVar("T")


class Place(NamedTuple):
    """One name in a folder: as the server spells it, and as the kernel does."""

    folder: Folder
    home: ShareRoot
    name: str
    shown: bytes

    @property
    def key(self) -> str:
        """The name, folded as the server folds."""
        return self.home.names.key(self.name)


class Namespace:
    """Finds what a change is about, and records what it has done."""

    def __init__(
        self,
        nodes: NodeTable,
        absent: AbsentNames,
        files: OpenFiles,
        directories: OpenDirectories,
        lookup: Lookup,
        speculation: Speculation,
    ) -> None:
        self._nodes = nodes
        self._absent = absent
        self._files = files
        self._directories = directories
        self._lookup = lookup
        self._speculation = speculation

    # -- before a change

    def new(self, folder_ino: int, name: bytes) -> Place:
        """Return the place of a name that is to be made.

        Raises: SmbError with ENAMETOOLONG, EINVAL (the server can hold no such name), EEXIST ('.' and '..'), EPERM (in
        the root of a whole server), ESTALE and ENOTDIR for the folder.
        """
        folder, home = self._folder(folder_ino)
        if name in (b".", b".."):
            raise SmbError(f"{name!r} is always there", errno=posix.EEXIST)
        if len(name) > NAME_MAX:
            raise SmbError(f"a name of {len(name)} bytes", errno=posix.ENAMETOOLONG)
        spelling = home.names.to_make(name)
        if spelling is None:
            raise SmbError(f"the server can hold no name {name!r}", errno=posix.EINVAL)
        return Place(folder, home, spelling, name)

    async def existing(self, folder_ino: int, name: bytes) -> tuple[Place, Node]:
        """Return the place of a name that is there, as the server spells it, and what it stands for.

        Cost: none for a name that the kernel has been given; else as `Filesystem.lookup`.
        Raises: SmbError with ENOENT, EINVAL ('.' and '..'), EPERM (in the root of a whole server), and as `lookup`.
        """
        folder, _ = self._folder(folder_ino)
        if name in (b".", b".."):
            raise SmbError(f"{name!r} cannot be changed", errno=posix.EINVAL)
        found = self.known(folder, name) or await self.find(folder, name)
        if found is None:
            raise SmbError(f"no {name!r} in {folder.name!r}", errno=posix.ENOENT)
        return found

    async def find(self, folder: Folder, name: bytes) -> tuple[Place, Node] | None:
        """Return the place of a name and what it stands for now; None: nothing.  Cost and errors: as `existing`."""
        node = await self._lookup.find(folder, name)
        return None if node is None else self.known(folder, name)

    def known(self, folder: Folder, name: bytes) -> tuple[Place, Node] | None:
        """Return what a name is known to stand for, however long ago that was learnt; None: nothing is known of it."""
        home = share_root(folder)
        for spelling in self._lookup.spellings(folder, name):
            key, node = self._nodes.find(folder, home.names, spelling)
            if node is not None:
                return Place(folder, home, self._nodes.spelling(node, folder, key), name), node
        return None

    def path(self, place: Place) -> str:
        """Return the path of a name, now.  Raises: SmbError (ESTALE: its folder is gone)."""
        _, path = self._nodes.locate(place.folder)
        return f"{path}/{place.name}" if path else place.name

    async def stand_aside(self, node: Node) -> None:
        """Let no handle of ours forbid that a file or folder is renamed or removed: see `OpenFiles.stand_aside`.

        For a folder that goes for what is open below it, too. What is just being opened is waited for: whose it is, and
        whether it may be closed again, is known only then.
        """
        await self._stand_aside(node, trio.current_time() + JOIN_S)

    async def _stand_aside(self, node: Node, join_until: float) -> None:
        await self._files.joined(node, join_until)
        self._speculation.let_go(node)
        await self._files.stand_aside(node)
        if isinstance(node, Folder):
            for below in self._nodes.pinned_below(node):
                await self._stand_aside(below, join_until)
            await self._directories.stand_aside(node)

    # -- the change

    async def change(self, operation: Callable[[], Awaitable[T]], *folders: Folder) -> T:
        """Carry out a change of names in `folders` when it is its turn, and return its result.

        It is carried out again where a folder above was renamed here meanwhile, so that the path was no longer true.
        """
        taken: list[trio.Lock] = []
        try:
            for folder in sorted(set(folders), key=lambda folder: folder.ino):
                taken.append(await _turn(folder))  # noqa: PERF401 # one that is cancelled gives back what it has
            while True:
                asked = self._nodes.ask(-math.inf)
                try:
                    return await operation()
                except NotFound:
                    if not any(self._nodes.recent.moved(folder, asked.number) for folder in folders):
                        raise
        finally:
            for lock in taken:
                lock.release()
            for folder in folders:
                if folder.changing is not None and not folder.changing.locked():
                    folder.changing = None

    # -- after it

    def made(self, place: Place, stat: FileStat, sent: Asked, *, new: bool = True) -> Node:
        """Record that a name stands for what `stat` says, and return its node.

        `new`: it was made, so that what was known of the name before `sent` is of another file.
        """
        key, known = self._nodes.find(place.folder, place.home.names, place.name)
        if new and known is not None and known.asked.number < sent.number:
            self._nodes.detach(place.folder, key, place.shown)
        asked = self._nodes.ask(sent.at)  # newer than all answers on their way
        node = self._lookup.found(place.folder, place.name, place.shown, stat, asked, made=new)
        self._note(place, appeared=True)
        if new and isinstance(node, Folder):
            self._speculation.new.made(node)
        return node

    def removed(self, place: Place) -> None:
        """Record that a name is gone."""
        key, node = self._nodes.find(place.folder, place.home.names, place.name)
        if node is not None:
            self._count_link(node, -1)
            self._nodes.detach(place.folder, key, place.shown, removed=True)
        self._gone(place)

    def renamed(self, source: Place, target: Place) -> None:
        """Record that the name at `source` is now at `target`, in the place of what was there."""
        names = source.home.names
        key, node = self._nodes.find(source.folder, names, source.name)
        target_key, replaced = self._nodes.find(target.folder, names, target.name)
        if replaced is not None and replaced is not node:
            self._count_link(replaced, -1)
            self._nodes.detach(target.folder, target_key, target.shown, removed=True)
        if node is not None:
            self._nodes.rename(source.folder, key, target.folder, target.name, (source.shown, target.shown))
        if (source.folder, source.key) != (target.folder, target.key):
            self._gone(source)
        self._lookup.appeared(target.folder, target.key, target.shown)
        self._note(target, appeared=True)

    def linked(self, place: Place, node: Node) -> None:
        """Record that a node has a further name."""
        key, known = self._nodes.find(place.folder, place.home.names, place.name)
        if known is not None and known is not node:
            self._nodes.detach(place.folder, key, place.shown)
        if known is not node:
            self._nodes.link(place.folder, place.key, place.name, node)
        self._count_link(node, 1)
        self._lookup.appeared(place.folder, place.key, place.shown)
        self._note(place, appeared=True)

    def doubt(self, *places: Place) -> None:
        """Believe nothing of these names any longer: a change of them has failed, or nobody knows whether it has."""
        for place in places:
            _, node = self._nodes.find(place.folder, place.home.names, place.name)
            if node is not None:
                self._nodes.doubt(node)
            self._lookup.appeared(place.folder, place.key, place.shown)
            self._note(place, appeared=True)

    def _folder(self, ino: int) -> tuple[Folder, ShareRoot]:
        folder = self._nodes.folder(ino)
        if is_server_root(folder):
            raise SmbError("the shares of a server are not changed from here", errno=posix.EPERM)
        return folder, share_root(folder)

    def _gone(self, place: Place) -> None:
        self._lookup.appeared(place.folder, place.key, place.shown)
        self._note(place)
        self._absent.note(place.folder.ino, place.key, place.shown, self._nodes.ask(trio.current_time()))

    def _note(self, place: Place, *, appeared: bool = False) -> None:
        number = self._nodes.ask(-math.inf).number
        self._nodes.recent.note(place.folder, place.key, number)
        self._nodes.recent.echoes.note((place.folder.ino, place.key))
        self._nodes.recent.echoes.note(place.folder.ino)
        self._directories.changed(place.folder, place.key, number, appeared=appeared)
        self._speculation.new.changed(place.folder, place.key)
        if place.folder.aliases is not None:
            place.folder.aliases.pop(place.shown, None)
        self._nodes.doubt(place.folder)

    def _count_link(self, node: Node, more: int) -> None:
        stat = node.stat()
        if stat.links is not None:
            self._nodes.changed_here(node, stat._replace(links=max(0, stat.links + more)))
        self._nodes.doubt(node)


async def _turn(folder: Folder) -> trio.Lock:
    """Wait for one's turn to change names in a folder; return the lock, which is to be released."""
    lock = folder.changing = folder.changing or trio.Lock()
    try:
        lock.acquire_nowait()  # mostly nobody else wants it: then nothing else need have its turn in between
    except trio.WouldBlock:
        await lock.acquire()
    return lock
