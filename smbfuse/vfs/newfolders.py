"""Folders that were made here: what is in them is known, so that a new name in them need not be asked for.

Before the kernel makes a file it asks whether there is one: `cp -r`, `tar x` and `git clone` would wait for one more
answer for each file that they make. A folder that we have just made holds what we have made in it. That is believed as
long as any other answer; while names are asked for, the folder is listed now and then, so that it can be believed on.

Only here does a listing prove that a name is missing. Elsewhere servers leave out what a user may not read, or lead to
what they do not list; and even here a name that may be one of those is asked for.
"""

import logging
from collections import OrderedDict
from typing import Final

import trio

from smbfuse.errors import SmbError
from smbfuse.vfs.attrs import Asked, Lifetimes
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.inode import Folder
from smbfuse.vfs.nodes import NodeTable

log = logging.getLogger(__name__)

FOLDERS_MAX: Final = 256
NAMES_MAX: Final = 2048  # of one folder: listing more than that over and over costs more than asking
IDLE: Final = 8  # times as long as names are believed: then nobody is filling it any longer
NEVER_CERTAIN: Final = b"~:@"  # short names (PROGRA~1), streams, snapshots (@GMT-…)


class _New:
    """One folder that was made here."""

    __slots__ = ("asked", "folder", "listing", "names")

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.asked: Asked = folder.asked  # when nothing but `names` was in it
        self.names: set[str] = set()  # keys of all that has been in it since it was made
        self.listing = False


class NewFolders:
    """The folders that were made here lately. Nothing is known where names are not believed."""

    def __init__(self, nodes: NodeTable, directories: OpenDirectories, lifetimes: Lifetimes, spawn: Spawn) -> None:
        self._nodes = nodes
        self._directories = directories
        self._lifetimes = lifetimes
        self._spawn = spawn
        self._folders: OrderedDict[int, _New] = OrderedDict()

    def made(self, folder: Folder) -> None:
        """Hear that a folder was made, just now and by us."""
        if self._lifetimes.names_s > 0:
            self._folders[folder.ino] = _New(folder)
            self._folders.move_to_end(folder.ino)
            if len(self._folders) > FOLDERS_MAX:
                self._folders.popitem(last=False)

    def changed(self, folder: Folder, key: str) -> None:
        """Hear that a name of a folder was changed here, or may have been."""
        new = self._folders.get(folder.ino)
        if new is not None:
            new.names.add(key)
            self._forget_large(new)

    def lacks(self, folder: Folder, key: str, shown: bytes) -> Asked | None:
        """Return when a name was known to be missing in a folder; None: that is not known, or not well enough."""
        new = self._folders.get(folder.ino)
        if new is None or key in new.names or not _is_certain(shown):
            return None
        age_s, believed_s = trio.current_time() - new.asked.at, self._lifetimes.names_s
        if new.folder is not folder or self._nodes.recent.moved(folder, new.asked.number) or age_s > IDLE * believed_s:
            del self._folders[folder.ino]
            return None
        if age_s > believed_s / 2 and not new.listing:
            new.listing = True
            self._nodes.pin(folder)
            self._spawn(self._list, new)
        return new.asked if age_s < believed_s else None

    async def _list(self, new: _New) -> None:
        try:
            listing = await self._directories.list_anew(new.folder, NAMES_MAX)
            if listing is None:
                self._forget(new)
            else:
                new.names.update(listing.keys())
                new.asked = listing.began
                self._forget_large(new)
        except SmbError as error:
            log.debug("folder=%r is not listed again: %s", new.folder.name, error)
            self._forget(new)
        finally:
            new.listing = False
            self._nodes.unpin(new.folder)

    def _forget_large(self, new: _New) -> None:
        if len(new.names) > NAMES_MAX:
            self._forget(new)

    def _forget(self, new: _New) -> None:
        if self._folders.get(new.folder.ino) is new:
            del self._folders[new.folder.ino]


def _is_certain(shown: bytes) -> bool:
    """Tell whether a name is nothing but a name: servers fold others than ASCII as they like, and hide some."""
    return shown.isascii() and not shown.startswith(b".") and not any(byte in NEVER_CERTAIN for byte in shown)
