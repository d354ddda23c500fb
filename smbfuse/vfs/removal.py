"""Names that go: unlink, rmdir, and files that live on without a name while a program has them open.

A server with POSIX semantics keeps such a file by itself; one that may be written is not left to it, because Samba sets
neither size nor times of what has no name. Any other keeps its name taken until the last handle is closed, so that
nothing else could be made under it, its folder not be removed, and who looks would still see it. There the file is
first renamed to a name of its own, `.smbfuse-` and 16 random hexadecimal digits, which is shown to nobody here; then it
is removed, which the server carries out at the last close, or when we die. The place for such names is the root of the
share, where they are in no folder's way; their own folder where the root cannot be written, or is on another disk.
"""

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from smbfuse.errors import Busy, ConnectionLost, Denied, Exists, NotFound, SmbError, StatusError, Timeout
from smbfuse.share import Attributes, Change, Features, GrantHolder, Kind, ShareSource
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.file import OpenFiles
from smbfuse.vfs.inode import Folder, Node, ShareRoot
from smbfuse.vfs.namespace import Namespace, Place
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.undoing import Attempt, Undoing

log = logging.getLogger(__name__)

HIDDEN_PREFIX: Final = ".smbfuse-"
HIDDEN_BYTES: Final = 8  # of randomness in a hidden name


@dataclass(eq=False, slots=True)
class Hidden:
    """A file without a name, and where it is all the same."""

    home: ShareRoot
    path: str
    name: str
    removed: bool = False  # the server will forget it at its last close


class Removal:
    """Removes names."""

    def __init__(
        self,
        source: ShareSource,
        nodes: NodeTable,
        names: Namespace,
        files: OpenFiles,
        directories: OpenDirectories,
        spawn: Spawn,
    ) -> None:
        self.undoing = Undoing(source, spawn)
        self._nodes = nodes
        self._names = names
        self._files = files
        self._directories = directories
        self._spawn = spawn
        self._hidden: dict[int, list[Hidden]] = {}  # by inode
        self._crowded: set[ShareRoot] = set()  # shares whose root takes no hidden names

    async def unlink(self, folder_ino: int, name: bytes) -> None:
        """Remove a name of a file; see `Filesystem.unlink`."""
        place, node = await self._names.existing(folder_ino, name)
        await self._names.change(lambda: self._unlink(place, node), place.folder)

    async def _unlink(self, place: Place, node: Node) -> None:
        try:
            await self._names.stand_aside(node)
            if not self.is_in_use(place.home, node):
                try:
                    await self._remove(place.home, self._names.path(place), node)
                    self._names.removed(place)
                    return
                except Busy:
                    if not self._files.is_wanted(node, to_write=False):
                        raise
            hidden = await self.hide(place, node)
            self._names.removed(place)
            await self.finish(hidden, node)
        except BaseException:
            self._names.doubt(place)
            raise

    async def rmdir(self, folder_ino: int, name: bytes) -> None:
        """Remove an empty folder; see `Filesystem.rmdir`."""
        place, node = await self._names.existing(folder_ino, name)
        await self._names.change(lambda: self.rmdir_at(place, node), place.folder)

    async def rmdir_at(self, place: Place, node: Node) -> None:
        """Remove an empty folder in the course of a change.  Raises: as `Filesystem.rmdir`."""
        listed = node if isinstance(node, Folder) else None
        try:
            if listed is not None:
                await self._directories.give_up(listed)
            await self._remove(place.home, self._names.path(place), node, Kind.DIRECTORY)
            if listed is not None:
                # A server keeps the name of a folder that is being listed, too. There is not much left to list.
                await self._directories.finish(listed)
        except BaseException:
            self._names.doubt(place)
            raise
        self._names.removed(place)

    # -- files that live on

    def is_in_use(self, home: ShareRoot, node: Node) -> bool:
        """Tell whether a file must be hidden before its name can be taken away: once it has stood aside.

        A server with POSIX semantics takes any name away. But a file that is written should keep one: after a loss of
        the connection it is opened by it again. And none may be hidden that has another: what the server is told to
        remove it once it is closed forbids that the other is renamed.
        """
        posix = Features.POSIX in home.share.features
        return not (posix and self._nodes.links.get(node.ino)) and self._files.is_wanted(node, to_write=posix)

    async def hide(self, place: Place, node: Node) -> Hidden:
        """Give a file a name that is shown to nobody; to be followed by `finish`, or by `show_again`.

        Cost: 1 round trip.  Raises: as `Share.rename`.
        """
        await self._names.stand_aside(node)
        home = place.home
        path = self._names.path(place)
        above = path[: len(path) - len(place.name)]
        name = HIDDEN_PREFIX + secrets.token_hex(HIDDEN_BYTES)
        home.hidden.add(home.names.key(name))
        holder = self._files.holder(node)
        hidden = Hidden(home, name, name)
        try:
            if above and home not in self._crowded:
                try:
                    await home.share.rename(path, name, replace=False, holder=holder)
                    return self._note_hidden(node, hidden)
                except StatusError as error:
                    log.debug("%r cannot be hidden in the root of %r: %s", path, home.share.name, error)
                    hidden.path = above + name
                    await home.share.rename(path, hidden.path, replace=False, holder=holder)
                    self._crowded.add(home)
            else:
                hidden.path = above + name
                await home.share.rename(path, hidden.path, replace=False, holder=holder)
        except (ConnectionLost, Timeout):
            self.undoing.undo_later(*self._showing(hidden, place, node))  # it may have been carried out
            raise
        except BaseException:
            home.hidden.discard(home.names.key(name))
            raise
        return self._note_hidden(node, hidden)

    async def show_again(self, hidden: Hidden, place: Place, node: Node) -> None:
        """Undo `hide`: now, or when there is a connection again.

        Cost: 1 round trip.  Raises nothing of the server's: what could not be undone is logged.
        """
        self._hidden[node.ino].remove(hidden)
        await self.undoing.undo(*self._showing(hidden, place, node))

    def _showing(self, hidden: Hidden, place: Place, node: Node) -> tuple[str, Attempt]:
        """Return what undoes `hide`, behind what it is called in the log."""
        home, former = hidden.home, self._names.path(place)

        async def show() -> None:
            path = self._names.path(place)
            try:
                await home.share.rename(hidden.path, path, replace=False, holder=self._files.holder(node))
            except Exists:
                # Something else has the name by now, perhaps by the very change that was thought to have failed.
                await self.finish(self._note_hidden(node, hidden), node)
                return
            except NotFound:
                log.debug("%r was not hidden after all, or is removed", path)
            except (ConnectionLost, Timeout):
                raise
            except SmbError as error:
                what = f"share={home.share.name} file {path!r} is called {hidden.path!r} now"
                log.warning("%s: its renaming failed half-way and could not be undone: %s", what, error)
            home.hidden.discard(home.names.key(hidden.name))
            self._names.doubt(place)

        return f"share={home.share.name} file {former!r} is called {hidden.path!r} now", show

    async def finish(self, hidden: Hidden, node: Node) -> None:
        """Have the server forget a hidden file at its last close; if it refuses now, at that close.

        Cost: 1 round trip.  Raises nothing of the server's: the name is gone already.
        """
        try:
            await self._remove(hidden.home, hidden.path, node)
            hidden.removed = True
        except SmbError as error:
            log.debug("hidden file %r stays until its last close: %s", hidden.path, error)

    def node_gone(self, ino: int) -> None:
        """Hear that nobody has a node any longer: what was hidden of it can go for good."""
        for hidden in self._hidden.pop(ino, ()):
            if hidden.removed:
                hidden.home.hidden.discard(hidden.home.names.key(hidden.name))
            else:
                self._spawn(self._remove_leftover, hidden)

    async def drain(self) -> None:
        """Remove what could not be removed before, at the end of the mount. Raises nothing of the server's."""
        await self.undoing.drain()
        for hidden in [one for several in self._hidden.values() for one in several if not one.removed]:
            await self._remove_leftover(hidden)

    def _note_hidden(self, node: Node, hidden: Hidden) -> Hidden:
        self._hidden.setdefault(node.ino, []).append(hidden)
        return hidden

    async def _remove_leftover(self, hidden: Hidden) -> None:
        try:
            await hidden.home.share.remove(hidden.path, Kind.FILE)
            hidden.removed = True
        except SmbError as error:
            # Nobody sees the file from here; from elsewhere it is one of some size with a name that explains itself.
            log.info("share=%s hidden file %r could not be removed: %s", hidden.home.share.name, hidden.path, error)
        hidden.home.hidden.discard(hidden.home.names.key(hidden.name))

    # -- the request

    async def _remove(self, home: ShareRoot, path: str, node: Node, kind: Kind | None = None) -> None:
        """Remove a name, a protected file's too: POSIX asks the folder alone whether a name may go.

        Cost: 1 round trip; 4 for a file with the attribute READONLY, which servers without POSIX refuse to remove.
        Raises: as `Share.remove`.
        """
        share, holder = home.share, self._files.holder(node)
        kind = kind or node.stat().kind
        try:
            await share.remove(path, kind, holder)
        except Denied as denied:
            if Features.POSIX in share.features:
                raise
            stat = await share.stat(path)
            if not stat.attributes & Attributes.READONLY:
                raise
            kept, lifted = stat.attributes, stat.attributes & ~Attributes.READONLY or Attributes.NORMAL
            try:
                await share.change(path, Change(attributes=lifted), holder)
            except StatusError:
                raise denied from None
            except BaseException:
                await self._undo_lifting(home, path, kept, holder)  # it may have been carried out
                raise
            try:
                await share.remove(path, kind, holder)
            except BaseException:
                await self._undo_lifting(home, path, kept, holder)
                raise
            if stat.links is not None and stat.links > 1:
                self._spawn(self._protect_another_name, home, node, path, kept)

    async def _undo_lifting(self, home: ShareRoot, path: str, attributes: int, holder: GrantHolder | None) -> None:
        """Protect a file again that could not be removed, whoever has given up meanwhile; later if it takes long."""

        async def protect() -> None:
            await self._protect(home, path, attributes, holder)

        await self.undoing.undo(f"share={home.share.name} the file {path!r} is not read-only any more", protect)

    async def _protect_another_name(self, home: ShareRoot, node: Node, removed: str, attributes: int) -> None:
        """Give the file its attributes back under one of the names that it still has, if we know one."""
        with suppress(SmbError):
            _, path = self._nodes.locate(node)
            if path != removed:
                await self._undo_lifting(home, path, attributes, self._files.holder(node))

    async def _protect(self, home: ShareRoot, path: str, attributes: int, holder: GrantHolder | None) -> None:
        """Give a file its attributes back.  Raises: ConnectionLost, Timeout."""
        try:
            await home.share.change(path, Change(attributes=attributes), holder)
        except NotFound:
            pass  # it was removed after all
        except (ConnectionLost, Timeout):
            raise
        except SmbError as error:
            log.info("share=%s the file %r may not be read-only any more: %s", home.share.name, path, error)
