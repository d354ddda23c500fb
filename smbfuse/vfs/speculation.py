"""Asks ahead of programs that go through a folder file by file: lists it, and opens the next small files.

The guesses are made in `guesses`; here they are carried out, by tasks of their own: nobody waits for one that he has
not asked for himself, and what goes wrong goes unseen, because whoever wants the file asks again. What was asked ahead
is believed no longer than any other answer, and a file that was opened ahead is what it would be if another program
had it open: known, and held on the server, for as long as its attributes are good.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.share import Features, Kind
from smbfuse.vfs.attrs import Lifetimes, kind_and_size
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.guesses import ENTRIES_A_LOOKUP, LARGEST_WINDOW, MISSES, WINDOW_BYTES, MissedLookups, Siblings
from smbfuse.vfs.inode import Folder, Node, share_root
from smbfuse.vfs.listing import Listing
from smbfuse.vfs.names import to_wtf8
from smbfuse.vfs.newfolders import NewFolders
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.opening import FIRST_BYTES
from smbfuse.vfs.posix import SpeculationStatistics
from smbfuse.vfs.sharedfile import SharedFile
from smbfuse.vfs.walks import FolderWalks

log = logging.getLogger(__name__)

ENTRIES_MAX: Final = 20_000  # listed ahead of one folder: two or three pages
FOLDERS_MAX: Final = 4  # gone through file by file at a time
LARGEST_WALK: Final = 2 * ENTRIES_MAX  # entries of a folder gone through: sorted, they cost 10 ms
HELD_MAX: Final = 2 * LARGEST_WINDOW  # files open ahead of need
FEWEST_IN_FLIGHT: Final = 8  # a server that takes fewer requests at once has none to spare


class _Walk:
    """A folder whose files are opened, and the guesses about it."""

    def __init__(self, listing: Listing, siblings: Siblings) -> None:
        self.listing = listing
        self.entries = len(listing)  # that the guesses know of
        self.siblings = siblings
        self.until = 0.0  # when it is forgotten


class _Held:
    """A file that was opened ahead of need."""

    def __init__(self, file: SharedFile, folder: Folder, until: float) -> None:
        self.file = file
        self.folder = folder
        self.until = until  # when it is closed


class Speculation:
    """What is asked for before anybody asks.

    Nothing at all where answers are not believed (`cache=none`, `actimeo=0`): they would be asked for again.
    """

    def __init__(
        self,
        nodes: NodeTable,
        directories: OpenDirectories,
        files: OpenFiles,
        blocks: BlockCache,
        lifetimes: Lifetimes,
        spawn: Spawn,
    ) -> None:
        self._nodes = nodes
        self._directories = directories
        self._files = files
        self._blocks = blocks
        self._lifetimes = lifetimes
        self._spawn = spawn
        self._believed = lifetimes.attributes_s > 0 and lifetimes.listing_s > 0
        self._misses = MissedLookups()
        self.folders = FolderWalks(nodes, directories, lifetimes, spawn)
        self.new = NewFolders(nodes, directories, lifetimes, spawn)
        self._being_listed: set[int] = set()  # folders
        self._walks: OrderedDict[int, _Walk] = OrderedDict()  # by the folder's inode
        self._held: dict[int, _Held] = {}  # by the file's inode
        self._under_way = 0
        self._expiring = False
        self._listed = 0
        self._answered = 0
        self._opened = 0
        self._taken = 0

    def statistics(self) -> SpeculationStatistics:
        """Return a snapshot of counters."""
        return SpeculationStatistics(
            self._listed, self._answered, self._opened, self._taken, len(self._held), self.folders.listed
        )

    # -- names

    def recall(self, folder: Folder, name: bytes) -> Node | None:
        """Return the node of a name that the folder's listing shows and told of lately; None: ask the server."""
        listing = self._directories.known(folder)
        position = None if listing is None else listing.position(name)
        if listing is None or position is None:
            return None
        node = listing.node(position)
        if node is None:
            return None
        if self._lifetimes.name_left(node.asked.at, trio.current_time()) <= 0:
            self._nodes.collect(node)
            return None
        self._answered += 1
        self._misses.answered(folder.ino, len(listing))
        return node

    def missed(self, folder: Folder) -> None:
        """Hear that a name of a folder was found, and that the server had to be asked for it."""
        if not self._believed or folder.ino in self._being_listed or self._directories.known(folder) is not None:
            return
        if self._misses.missed(folder.ino, trio.current_time()):
            self._being_listed.add(folder.ino)
            self._nodes.pin(folder)
            self._listed += 1
            self._spawn(self._list, folder)

    def _list_on(self, folder: Folder) -> None:
        """List a folder anew, of whose names one after the other is changed, before what is known of them is outdated.

        Who removes them all would have to ask for each of them else, once the listing that he began with is too old.
        """
        listing = self._directories.known(folder)
        if listing is None or not listing.done or not self._believed or folder.ino in self._being_listed:
            return
        listing.changes += 1
        age_s = trio.current_time() - listing.began.at
        if age_s > self._lifetimes.names_s / 2 and listing.changes >= MISSES + len(listing) // ENTRIES_A_LOOKUP:
            self._being_listed.add(folder.ino)
            self._nodes.pin(folder)
            self._listed += 1
            self._spawn(self._list, folder, True)

    async def _list(self, folder: Folder, anew: bool = False) -> None:
        list_it = self._directories.list_anew if anew else self._directories.list_ahead
        try:
            await list_it(folder, ENTRIES_MAX)
        except SmbError as error:
            log.debug("folder=%r is not listed ahead: %s", folder.name, error)
        finally:
            self._being_listed.discard(folder.ino)
            self._nodes.unpin(folder)

    # -- files

    def opened(self, node: Node) -> None:
        """Hear that the kernel has a file open: what is held of it is not needed any longer, the next ones may be."""
        held = self._held.pop(node.ino, None)
        if held is not None:
            self._taken += 1
            self._files.let_go_ahead(held.file)
        folder = node.parent
        walk = None if folder is None or not self._believed else self._walk(folder)
        if folder is None or walk is None:
            return
        ran = walk.siblings.running
        advised = walk.siblings.opened(to_wtf8(node.name), trio.current_time(), lambda: self._room(folder))
        if advised and (files := [file for name in advised if (file := self._begin(walk.listing, name)) is not None]):
            self._under_way += len(files)
            self._opened += len(files)
            self._spawn(self._open, folder, files)
        if ran and not walk.siblings.running:
            self._drop(folder)

    def let_go(self, node: Node) -> None:
        """Hear that a file is to be removed or renamed: it is not held open for a program that may come."""
        if node.parent is not None:
            self._list_on(node.parent)
        held = self._held.pop(node.ino, None)
        if held is not None:
            self._files.let_go_ahead(held.file)

    def _walk(self, folder: Folder) -> _Walk | None:
        """Return the guesses about a folder, made anew from a newer listing unless they are just proving right."""
        walk = self._walks.get(folder.ino)
        if walk is not None and walk.listing.folder is not folder:
            walk = None  # the number is another folder's now
        if walk is None or not walk.siblings.running:
            listing = self._directories.known(folder)
            if listing is not None and len(listing) <= LARGEST_WALK and not _up_to_date(walk, listing):
                siblings = Siblings(list(listing.files(FIRST_BYTES)), self._lifetimes.attributes_s)
                walk = self._walks[folder.ino] = _Walk(listing, siblings)
        if walk is not None:
            walk.until = trio.current_time() + self._lifetimes.attributes_s
            self._walks.move_to_end(folder.ino)
            if len(self._walks) > FOLDERS_MAX:
                self._walks.popitem(last=False)
            self._expire_later()
        return walk

    def _room(self, folder: Folder) -> int:
        """Return how many files of a folder may be opened ahead now."""
        try:
            share = share_root(folder).share
        except SmbError:
            return 0  # the folder is no longer there; files of it may be, open
        most = share.limits.in_flight
        # An SMB1 handle from OPEN_ANDX forbids everybody to delete the file: held for nobody, that is too much.
        if Features.COMPOUND not in share.features or most < FEWEST_IN_FLIGHT or self._blocks.room() < WINDOW_BYTES:
            return 0
        return max(0, min(most // 2 - self._under_way, HELD_MAX - len(self._held)))

    def _begin(self, listing: Listing, name: bytes) -> SharedFile | None:
        position = listing.position(name)
        node = None if position is None else listing.node(position)
        if node is None:
            return None
        kind, size = kind_and_size(node.record)
        try:
            if kind is Kind.FILE and 0 < size <= FIRST_BYTES and not self._files.is_shared(node):
                return self._files.begin_ahead(node)
        except SmbError as error:
            log.debug("file=%r is not opened ahead: %s", node.name, error)
        self._nodes.collect(node)
        return None

    async def _open(self, folder: Folder, files: Sequence[SharedFile]) -> None:
        def told(file: SharedFile, is_open: bool) -> None:
            self._under_way -= 1
            if is_open:
                self._hold(folder, file)

        await self._files.open_ahead(files, told)

    def _hold(self, folder: Folder, file: SharedFile) -> None:
        walk = self._walks.get(folder.ino)
        left_s = self._lifetimes.left(file.node.asked.at, trio.current_time())
        if walk is None or not walk.siblings.running or left_s <= 0 or file.node.ino in self._held:
            self._files.let_go_ahead(file)
            return
        self._held[file.node.ino] = _Held(file, folder, trio.current_time() + left_s)
        self._expire_later()

    def _drop(self, folder: Folder) -> None:
        for ino, held in list(self._held.items()):
            if held.folder is folder:
                del self._held[ino]
                self._files.let_go_ahead(held.file)

    # -- time

    def _expire_later(self) -> None:
        if not self._expiring:
            self._expiring = True
            self._spawn(self._expire)

    async def _expire(self) -> None:
        """Close what nobody came for, and forget folders that nobody goes through any longer."""
        try:
            while self._held or self._walks:
                times = [held.until for held in self._held.values()] + [walk.until for walk in self._walks.values()]
                await trio.sleep_until(min(times))
                now = trio.current_time()
                for ino, held in list(self._held.items()):
                    if held.until <= now:
                        del self._held[ino]
                        self._files.let_go_ahead(held.file)
                for folder_ino, walk in list(self._walks.items()):
                    if walk.until <= now:
                        del self._walks[folder_ino]
        finally:
            self._expiring = False


def _up_to_date(walk: _Walk | None, listing: Listing) -> bool:
    return walk is not None and walk.listing is listing and walk.entries == len(listing)
