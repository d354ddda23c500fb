"""Lists folders ahead of programs that walk a tree: who opens one subfolder after the other will open the next.

The order is guessed by `guesses.Siblings`, as that of files is. A folder listed ahead is what it would be if another
program had just listed it: its listing is believed as long as any other, and nothing is held for longer. Nobody waits
for one that he has not asked for himself, and what goes wrong goes unseen: who opens the folder asks again.
"""

import logging
from collections import OrderedDict
from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.vfs.attrs import Lifetimes
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.guesses import LARGEST_WINDOW, WINDOW_BYTES, Siblings
from smbfuse.vfs.inode import Folder, share_root
from smbfuse.vfs.listing import Listing
from smbfuse.vfs.names import to_wtf8
from smbfuse.vfs.nodes import NodeTable

log = logging.getLogger(__name__)

PARENTS_MAX: Final = 16  # folders whose subfolders are followed at a time: as deep as most trees are
LARGEST_WALK: Final = 20_000  # entries of a folder whose subfolders are followed
ENTRIES_MAX: Final = 4096  # listed ahead of one subfolder
FEWEST_IN_FLIGHT: Final = 8  # a server that takes fewer requests at once has none to spare
# A listing weighs about as much as a small file; so the window of folders is as wide as that of files.
WEIGHT: Final = WINDOW_BYTES // LARGEST_WINDOW


class _Walk:
    """A folder whose subfolders are opened, and the guess about them."""

    def __init__(self, listing: Listing, siblings: Siblings) -> None:
        self.listing = listing
        self.entries = len(listing)  # that the guess knows of
        self.siblings = siblings


class FolderWalks:
    """What is listed before anybody asks. Nothing at all where listings are not believed."""

    def __init__(self, nodes: NodeTable, directories: OpenDirectories, lifetimes: Lifetimes, spawn: Spawn) -> None:
        self._nodes = nodes
        self._directories = directories
        self._lifetime_s = lifetimes.names_s
        self._spawn = spawn
        self._walks: OrderedDict[int, _Walk] = OrderedDict()  # by the inode of the folder above
        self._under_way = 0
        self.listed = 0

    def opened(self, folder: Folder) -> None:
        """Hear that a program opens a folder: list those that it will open next."""
        above = folder.parent
        walk = None if above is None or self._lifetime_s <= 0 else self._walk(above)
        if above is None or walk is None:
            return
        advised = walk.siblings.opened(to_wtf8(folder.name), trio.current_time(), lambda: self._room(above))
        for name in advised:
            self._begin(walk.listing, name)

    def _walk(self, above: Folder) -> _Walk | None:
        """Return the guess about a folder, made anew from a newer listing unless it is just proving right."""
        walk = self._walks.get(above.ino)
        if walk is not None and walk.listing.folder is not above:
            walk = None  # the number is another folder's now
        if walk is None or not walk.siblings.running:
            listing = self._directories.known(above)
            newer = listing is not None and (walk is None or walk.listing is not listing or walk.entries < len(listing))
            if listing is not None and newer and len(listing) <= LARGEST_WALK:
                folders = [(shown, WEIGHT) for shown in listing.folders()]
                walk = _Walk(listing, Siblings(folders, self._lifetime_s))
        if walk is not None:
            self._walks[above.ino] = walk
            self._walks.move_to_end(above.ino)
            if len(self._walks) > PARENTS_MAX:
                self._walks.popitem(last=False)
        return walk

    def _room(self, above: Folder) -> int:
        """Return how many folders may be listed ahead now."""
        try:
            most = share_root(above).share.limits.in_flight
        except SmbError:
            return 0  # the folder is no longer there
        return 0 if most < FEWEST_IN_FLIGHT else max(0, min(most // 2, LARGEST_WINDOW) - self._under_way)

    def _begin(self, listing: Listing, name: bytes) -> None:
        position = listing.position(name)
        node = None if position is None else listing.node(position)
        if not isinstance(node, Folder):
            return
        if self._directories.known(node) is not None:
            self._nodes.collect(node)
            return
        self._nodes.pin(node)
        self._under_way += 1
        self.listed += 1
        self._spawn(self._list, node)

    async def _list(self, folder: Folder) -> None:
        try:
            await self._directories.list_ahead(folder, ENTRIES_MAX)
        except SmbError as error:
            log.debug("folder=%r is not listed ahead: %s", folder.name, error)
        finally:
            self._under_way -= 1
            self._nodes.unpin(folder)
