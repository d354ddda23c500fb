"""One known file: its number, its place in the tree, and what is known of it as one packed record."""

import errno as posix
import logging
from collections.abc import Collection
from typing import Protocol

import trio

from smbfuse.errors import SmbError
from smbfuse.share import FileStat, Kind, Share, creation_differs
from smbfuse.vfs.attrs import Asked, Known, asked_of, name_of, reasked, unpack, version
from smbfuse.vfs.names import Names

log = logging.getLogger(__name__)


class Node:
    """One file. `parent` is None for the root, and once the file has lost its last known name."""

    __slots__ = ("ino", "key", "lookups", "pages", "parent", "pins", "record")

    def __init__(self, ino: int, parent: "Folder | None", key: str, record: bytes) -> None:
        self.ino = ino
        self.parent = parent
        self.key = key  # the name, folded as the server folds; shared with the parent's table
        self.record = record  # see attrs.pack
        self.lookups = 0  # how often the kernel was given this node and has not forgotten it
        self.pins = 0  # open files and folders
        self.pages: int | None = None  # hash of the version that the kernel's pages are of

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ino:#x} {self.name!r} lookups={self.lookups} pins={self.pins}>"

    @property
    def name(self) -> str:
        """The name as the server spells it."""
        return name_of(self.record)

    @property
    def asked(self) -> Asked:
        """When what is known was asked for."""
        return asked_of(self.record)

    @property
    def is_unused(self) -> bool:
        """Whether nobody holds it: neither the kernel, nor who has it open."""
        return self.lookups == 0 and self.pins == 0

    def known(self) -> Known:
        """Return everything that is known, decoded."""
        return unpack(self.record)

    def stat(self) -> FileStat:
        """Return the attributes last told by the server."""
        return unpack(self.record).stat

    def outdate(self) -> None:
        """Have its attributes asked for again: somebody else has changed it, as we have just been told.

        What was asked before and is answered later is newer than what is known, and as little to be believed.
        """
        self.record = reasked(self.record, Asked(self.asked.number, -1 - trio.current_time()))


class Folder(Node):
    """A folder and the nodes known in it."""

    __slots__ = ("aliases", "believed_from", "changing", "children")

    def __init__(self, ino: int, parent: "Folder | None", key: str, record: bytes) -> None:
        super().__init__(ino, parent, key, record)
        self.children: dict[str, Node] = {}  # by key
        self.aliases: dict[bytes, str] | None = None  # names shown otherwise than they would be asked for
        self.changing: trio.Lock | None = None  # held while a name in it is being changed here
        # What was asked about its names by questions of lower numbers is void: it was renamed, or its lease has broken.
        self.believed_from = 0

    @property
    def is_unused(self) -> bool:
        """Whether nobody holds it, nor anything in it."""
        return not self.children and super().is_unused

    async def settled(self) -> None:
        """Wait until a change of its names that is under way here, by another task, has ended.

        A name that is put in the place of another may be missing on the server for a moment: that it is not there, says
        the server, is then no answer.
        """
        lock = self.changing
        if lock is not None and lock.statistics().owner is not trio.lowlevel.current_task():
            async with lock:
                pass


class ShareRoot(Folder):
    """The root of one share: what lies below speaks of this share's files, ids and spellings."""

    __slots__ = ("hidden", "names", "share", "trusts_ids")

    def __init__(
        self, ino: int, parent: Folder | None, key: str, record: bytes, *, share: Share, names: Names, trusts_ids: bool
    ) -> None:
        super().__init__(ino, parent, key, record)
        self.share = share
        self.names = names
        self.trusts_ids = trusts_ids
        self.hidden: set[str] = set()  # keys of names we have given to files that are to have none; see `removal`

    def same_file(self, before: FileStat, after: FileStat) -> bool:
        """Tell whether two answers about one path are about one file, as far as they say."""
        if before.kind is not after.kind or creation_differs(before, after):
            return False
        if not self.trusts_ids:
            return True
        return not differ(before.file_id or None, after.file_id or None) and not differ(
            before.volume_id, after.volume_id
        )

    def ids_waver(self, known: Known, name: str, stat: FileStat) -> bool:
        """Find out a server that gives one file another id each time; from then on its ids are not used."""
        before = known.stat
        if not self.trusts_ids or known.name != name or not (before.file_id and stat.file_id):
            return False
        if stat.created_ns is None or stat.changed_ns is None or before.file_id == stat.file_id:
            return False
        alike = before.kind is stat.kind and version(before) == version(stat) and before.created_ns == stat.created_ns
        if alike and not differ(before.volume_id, stat.volume_id):
            log.info("share=%s file ids change from one answer to the next: not used any longer", self.share.name)
            self.trusts_ids = False
            return True
        return False


class Observer(Protocol):
    """Who must know what the table finds out. Plain calls: they schedule at most."""

    def content_changed(self, node: Node, stat: FileStat) -> None:
        """Hear that the server has another content of the file than before."""
        ...

    def name_gone(self, folder: Folder, key: str, shown: Collection[bytes]) -> None:
        """Hear that a name, which the kernel knows as `shown`, no longer stands for what it was told."""
        ...

    def node_gone(self, ino: int) -> None:
        """Hear that a number is free again."""
        ...


def share_root(node: Node) -> ShareRoot:
    """Return the root of the share a node is in.  Raises: SmbError (ESTALE: its name is gone)."""
    root = _root_above(node)
    if root is None:
        raise SmbError(f"{node.name!r} is no longer there", errno=posix.ESTALE)
    return root


def is_in(node: Node, home: ShareRoot) -> bool:
    """Tell whether a node is in a share, by a name that is not gone."""
    return _root_above(node) is home


def _root_above(node: Node) -> ShareRoot | None:
    at: Node | None = node
    while at is not None and not isinstance(at, ShareRoot):
        at = at.parent
    return at


def is_below(node: Node, folder: Folder) -> bool:
    """Tell whether a node is somewhere in a folder; a folder is not in itself."""
    at = node.parent
    while at is not None and at is not folder:
        at = at.parent
    return at is not None


def differ(before: int | None, after: int | None) -> bool:
    """Tell whether two values are both known and not the same."""
    return before is not None and after is not None and before != after


def proven_same(before: FileStat, after: FileStat) -> bool:
    """Tell whether two answers are about one file beyond doubt, wherever it was found."""
    return (
        before.kind is after.kind
        and before.file_id == after.file_id
        and before.volume_id is not None
        and before.volume_id == after.volume_id
        and before.created_ns is not None
        and after.created_ns is not None
        and not creation_differs(before, after)
    )


def may_be_linked(before: FileStat, after: FileStat) -> bool:
    """Tell whether two answers about two names are about one file that has both: a hard link."""
    if after.kind is Kind.DIRECTORY or before.links == 1 or after.links == 1:
        return False
    return proven_same(before, after)
