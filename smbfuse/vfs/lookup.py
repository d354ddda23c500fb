"""From a name in a folder to its node: what is known, else what the server says; shares in the root of a server."""

import errno as posix
import logging
import math
from collections.abc import Callable, Sequence

import trio

from smbfuse.config import NameMapping, View
from smbfuse.errors import ConnectionLost, NotFound, SmbError, Timeout
from smbfuse.share import Features, FileStat, Kind, Share, ShareSource
from smbfuse.vfs.attrs import AbsentNames, Asked, Lifetimes, pack
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.bypath import renew
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.inode import Folder, Node, ShareRoot, share_root
from smbfuse.vfs.names import NAME_MAX, Names, fold, from_wtf8, needs_listing, to_wtf8
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import ROOT_INO
from smbfuse.vfs.speculation import Speculation
from smbfuse.vfs.trails import Trails

log = logging.getLogger(__name__)


async def make_root(source: ShareSource, view: View) -> Folder:
    """Return the root: of the one share, or of the server whose folders are shares.

    Cost and errors: as `ShareSource.share`.
    """
    stat = FileStat(Kind.DIRECTORY, 0, 0, 0, None, None, None, None)
    if source.whole_server:
        # The root of a server is ours: what is known of it is always good.
        return Folder(ROOT_INO, None, "", pack(Asked(0, math.inf), 0, stat, ""))
    record = pack(Asked(0, -math.inf), 0, stat, "")
    return _share_root(ROOT_INO, None, "", record, await source.share(""), view)


def is_server_root(folder: Folder) -> bool:
    """Tell whether a folder is the root of a whole server, which no share has."""
    return folder.ino == ROOT_INO and not isinstance(folder, ShareRoot)


def names_of(share: Share, mapping: NameMapping) -> Names:
    """Return how a share spells names."""
    features = share.features
    return Names(mapping, case_sensitive=Features.CASE_SENSITIVE in features, posix=Features.POSIX in features)


def _share_root(ino: int, parent: Folder | None, key: str, record: bytes, share: Share, view: View) -> ShareRoot:
    names = names_of(share, view.mapping)
    trusts_ids = view.server_inode
    return ShareRoot(ino, parent, key, record, share=share, names=names, trusts_ids=trusts_ids)


class Lookup:
    """Resolves names, with one question to the server where what is known does not answer."""

    def __init__(
        self,
        source: ShareSource,
        view: View,
        nodes: NodeTable,
        absent: AbsentNames,
        lifetimes: Lifetimes,
        directories: OpenDirectories,
        speculation: Speculation,
        connected: Callable[[ShareRoot], None],
        spawn: Spawn,
    ) -> None:
        """`connected` hears of each share of a server that is asked for."""
        self._source = source
        self._view = view
        self._nodes = nodes
        self._absent = absent
        self._lifetimes = lifetimes
        self._directories = directories
        self._speculation = speculation
        self._connected = connected
        self._trails = Trails(nodes, self._has_name, spawn)
        self.hits = 0
        self.misses = 0

    async def find(self, folder: Folder, name: bytes) -> Node | None:
        """Return the node that `name` stands for; None: there is none, and that is remembered.

        Cost and errors: see `Filesystem.lookup`.
        """
        if name in (b".", b".."):
            return folder if name == b"." else folder.parent or folder
        if len(name) > NAME_MAX:
            raise SmbError(f"a name of {len(name)} bytes", errno=posix.ENAMETOOLONG)
        if is_server_root(folder):
            return await self._find_share(folder, name)
        node = await self._find_file(folder, name)
        if node is not None and self._lifetimes.names_s > 0:
            self._trails.went(folder, node)
        return node

    def is_respelled(self, folder: Folder, node: Node, name: bytes) -> bool:
        """Tell whether the kernel asks for the name of a node in another case than the server has it."""
        if node.parent is not folder or is_server_root(folder):
            return False
        names = share_root(folder).names
        return names.shown(node.name) != name and node.key in map(names.key, names.spellings(name))

    def spellings(self, folder: Folder, name: bytes) -> tuple[str, ...]:
        """Return what a name in a folder may be called on the server, likeliest first; those that we hide left out."""
        home = share_root(folder)
        alias = (folder.aliases or {}).get(name)
        spellings = home.names.spellings(name)
        if alias is not None:
            spellings = (alias, *(spelling for spelling in spellings if spelling != alias))
        if home.hidden:
            spellings = tuple(spelling for spelling in spellings if home.names.key(spelling) not in home.hidden)
        return spellings

    def is_fresh(self, node: Node) -> bool:
        """Tell whether what is known of a node is good: asked for lately, its name its own, nobody at work on it."""
        left = self._lifetimes.name_left if isinstance(node, Folder) else self._lifetimes.left
        return self._is_certain(node) and left(node.asked.at, trio.current_time()) > 0

    def _has_name(self, node: Node) -> bool:
        """Tell whether a node may be given out for its name, without asking."""
        return self._is_certain(node) and self._lifetimes.name_left(node.asked.at, trio.current_time()) > 0

    def _is_all_there_is(self, node: Node) -> bool:
        """Tell whether what was known of a node last is to be shown, whatever its age: the server is out of reach.

        Nothing is ever said to be missing so: only the server can tell that. What is doubted, because a grant has ended
        with the connection, say, is shown too; what was never told (the root before its first answer) is not.
        """
        return not self._source.reachable and node.asked.number > 0 and self._is_certain(node)

    def _is_certain(self, node: Node) -> bool:
        return node.ino not in self._nodes.contested and not self._nodes.nameless(node)

    async def renew(self, node: Node) -> bool:
        """Bring the attributes of a node up to date, if they are no longer good; False: another file has its name now.

        Cost: 1 round trip; none while they are good. What is known is good enough for who has waited in vain.
        Raises: SmbError with ESTALE (its name is gone), and as `Share.stat`.
        """
        if self.is_fresh(node) or self._is_all_there_is(node):
            self.hits += 1
            return True
        self.misses += 1
        try:
            return await renew(self._nodes, node)
        except (ConnectionLost, Timeout):
            if self._is_all_there_is(node):
                return True
            raise

    async def _find_file(self, folder: Folder, name: bytes) -> Node | None:
        home = share_root(folder)
        self._directories.leases.used(folder)
        spellings = self.spellings(folder, name)
        node = self._known(folder, home, spellings, name)
        if node is None:
            node = await self._asked_ahead(folder, home, spellings, name)
        if node is not None:
            self.hits += 1
            return node
        if all(self._is_absent(folder, home.names.key(spelling), name) for spelling in spellings):
            self.hits += 1
            return None
        if self._is_lacking(folder, home, spellings, name):
            self.hits += 1
            return None
        node = self._speculation.recall(folder, name)
        if node is not None and node.ino not in self._nodes.contested:
            self.hits += 1
            return node
        self.misses += 1
        try:
            for spelling in spellings:
                node = await self._ask_name(folder, home, spelling, name)
                if node is not None:
                    self._speculation.missed(folder)
                    return node
            return await self._look_in_listing(folder, name) if needs_listing(name) else None
        except (ConnectionLost, Timeout):
            node = self._known(folder, home, spellings, name)
            if node is None:
                raise
            return node

    def _known(self, folder: Folder, home: ShareRoot, spellings: Sequence[str], name: bytes) -> Node | None:
        """Return the node of a name that may be given out without asking; None: there is none."""
        for spelling in spellings:
            key, node = self._nodes.find(folder, home.names, spelling)
            if (
                node
                and (self._has_name(node) or self._is_all_there_is(node))
                and self._nodes.certain(folder, key, node, spelling, name)
            ):
                return node
        return None

    async def _asked_ahead(self, folder: Folder, home: ShareRoot, spellings: Sequence[str], name: bytes) -> Node | None:
        """Return the node of a name that is being asked for ahead, once it is here; else ask for what is behind it."""
        for spelling in spellings:
            key, node = self._nodes.find(folder, home.names, spelling)
            if node and self._nodes.certain(folder, key, node, spelling, name):
                arrived = await self._trails.arrived(node)
                if arrived and folder.children.get(key) is node and self._has_name(node):
                    return node
                if isinstance(node, Folder):
                    self._trails.follow(node)
        return None

    async def _ask_name(self, folder: Folder, home: ShareRoot, spelling: str, shown: bytes) -> Node | None:
        key = home.names.key(spelling)
        while True:
            _, path = self._nodes.locate(folder)
            asked = self._nodes.ask(trio.current_time())
            try:
                stat: FileStat | None = await home.share.stat(f"{path}/{spelling}" if path else spelling)
            except NotFound:
                stat = None
                await folder.settled()
            if not self._nodes.recent.overtook(folder, key, asked.number):
                break
        if stat is not None:
            return self.found(folder, spelling, shown, stat, asked)
        known_key, node = self._nodes.find(folder, home.names, spelling)
        if node is not None and self._nodes.certain(folder, known_key, node, spelling, shown):
            if asked.number < node.asked.number:
                return node  # made since, and seen by a later question
            self._nodes.detach(folder, known_key)
        self._absent.note(folder.ino, key, shown, asked)
        return None

    def found(
        self, folder: Folder, spelling: str, shown: bytes, stat: FileStat, asked: Asked, *, made: bool = False
    ) -> Node:
        """Take in that a name stands for what `stat` says; the kernel knows it, or is about to, as `shown`.

        `made`: it is a new file.
        """
        home = share_root(folder)
        node = self._nodes.place(folder, spelling, stat, asked, made=made)
        self.appeared(folder, home.names.key(spelling), shown)
        key, _ = self._nodes.find(folder, home.names, spelling)
        if home.names.shown(node.name) != shown:
            self._nodes.note_spelling(folder, key, shown)
        return node

    def appeared(self, folder: Folder, key: str, told: bytes) -> None:
        """Take back that a name is missing, from every spelling that the kernel was told so but `told`."""
        missing = self._absent.appeared(folder.ino, key) - {told}
        if missing:
            self._nodes.observer.name_gone(folder, key, missing)

    async def _look_in_listing(self, folder: Folder, name: bytes) -> Node | None:
        """Find a name that cannot be asked for as it is shown, in the folder's listing."""
        fh = await self._directories.open(folder)
        try:
            return await self._directories.find(fh, name)
        finally:
            self._directories.release(fh)

    def _is_absent(self, folder: Folder, key: str, shown: bytes) -> bool:
        asked = self._absent.asked(folder.ino, key, shown)
        return asked is not None and self._lifetimes.name_left(asked.at, trio.current_time()) > 0

    def _is_lacking(self, folder: Folder, home: ShareRoot, spellings: Sequence[str], shown: bytes) -> bool:
        """Tell whether a name is missing in a folder that was made here; then that is remembered."""
        lacking: list[tuple[str, Asked]] = []
        for spelling in spellings:
            key = home.names.key(spelling)
            asked = self._speculation.new.lacks(folder, key, shown)
            if asked is None:
                return False
            lacking.append((key, asked))
        for key, asked in lacking:
            self._absent.note(folder.ino, key, shown, asked)
        return bool(lacking)

    def absence_left_s(self, folder: Folder, name: bytes) -> float:
        """Return for how many seconds it may be believed that a name is missing, which `find` has just said."""
        if is_server_root(folder):
            return self._lifetimes.names_s
        names, now = share_root(folder).names, trio.current_time()
        asked = [self._absent.asked(folder.ino, names.key(spelling), name) for spelling in self.spellings(folder, name)]
        left = [self._lifetimes.name_left(one.at, now) for one in asked if one is not None]
        return min(left, default=self._lifetimes.names_s)

    async def _find_share(self, root: Folder, name: bytes) -> Node | None:
        text = from_wtf8(name)
        if text is None:
            return None
        key = fold(text)
        node = root.children.get(key)
        if node is not None and self.is_fresh(node):
            self.hits += 1
            return node
        if self._is_absent(root, key, name):
            self.hits += 1
            return None
        self.misses += 1
        asked = self._nodes.ask(trio.current_time())
        try:
            share = await self._source.share(text)
            stat = await share.stat("")
        except NotFound:
            if root.children.get(key) is node is not None:
                self._nodes.lost(node, asked)
            self._absent.note(root.ino, key, name, asked)
            return None
        self.appeared(root, key, name)
        return self._place_share(root, key, text, share, stat, asked)

    def _place_share(self, root: Folder, key: str, name: str, share: Share, stat: FileStat, asked: Asked) -> Node:
        node = root.children.get(key)
        if isinstance(node, ShareRoot) and node.share is share and self._nodes.refresh(node, stat, asked):
            return node
        if key in root.children:
            self._nodes.detach(root, key)
        made = _share_root(self._nodes.own_number(), root, key, pack(asked, 0, stat, name), share, self._view)
        self._nodes.adopt(root, made)
        self._connected(made)
        return made

    async def connected_shares(self, root: Folder) -> "SharesSnapshot":
        """Return the shares that were asked for so far: which others there are is not known."""
        nodes = []
        for share in self._source.connected():
            try:
                node = await self._find_share(root, to_wtf8(share.name))
            except SmbError as error:
                log.info("share=%s is left out of the root: %s", share.name, error)
                continue
            if node is not None:
                nodes.append(node)
        return SharesSnapshot(nodes)


class SharesSnapshot:
    """The root of a whole server, as far as it is known; see `Snapshot`."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    def __len__(self) -> int:
        return len(self._nodes)

    async def reach(self, index: int) -> bool:
        """Tell whether there is such an entry."""
        return index < len(self._nodes)

    def shown(self, index: int) -> bytes:
        """Return an entry's name."""
        return to_wtf8(self._nodes[index].name)

    def node(self, index: int) -> Node | None:
        """Return an entry's node."""
        return self._nodes[index]
