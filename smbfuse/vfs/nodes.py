"""The node table: which inode number stands for which file, and what is known of it.

A node's number is `st_ino` and what the kernel asks with, so two rules stand above all others: two live files never
share a number, and a number never changes under a living file. The server's file id is taken where that is safe,
because it survives a remount and tells hard links; it is not trusted further than that:

* It is unique on one volume only, and a listing never says which volume it speaks of (a Samba share with a second disk
  mounted below it repeats numbers). So a number in use is given to a second name only if both answers name the same
  volume, the same creation time and the same kind, and the server does not count one link: a hard link. Never to a
  second folder. Everything else gets a number of our own.
* It may be used again for another file as soon as the first is deleted, even while we hold the first open. What is
  made here is none of before, nor is any what was removed here (see `nameless`); else creation time tells, where the
  server has one (see `share.creation_differs`). The old node is cut from its name and lives on for who has it open; the
  new file gets another number, or the same with generation + 1 when nobody has the old one open.
* A server may give none (0 or all ones), or another one at each question (then the share's ids are no longer used).

A node's attributes and name are one packed record, decoded on use; a file costs less than 500 bytes.
"""

import errno as posix
import itertools
import math
from typing import Final

from smbfuse.errors import SmbError
from smbfuse.share import FileStat, Kind
from smbfuse.vfs.attrs import U64, Asked, Known, asked_of, pack, reasked, refined, unpack, version
from smbfuse.vfs.contested import Contested
from smbfuse.vfs.inode import Folder, Node, Observer, ShareRoot, is_below, is_in, may_be_linked, share_root
from smbfuse.vfs.nameless import Nameless
from smbfuse.vfs.names import Names
from smbfuse.vfs.posix import ROOT_INO
from smbfuse.vfs.recent import RecentChanges

# Numbers of our own, far from what servers number their files with: Samba's are small or have the highest bit set,
# NTFS counts reuses in the upper 16 bits and seldom comes to 0x7F00. A server's id in here is never used.
OWN_NUMBERS: Final = range(0x7F << 56, 0x80 << 56)

# Marks the key of a second file whose name differs in case only. No name holds a NUL.
TWIN: Final = "\0"


class NodeTable:
    """All nodes by number, and the rules for numbers."""

    def __init__(self, root: Folder, observer: Observer) -> None:
        self.root = root
        self.observer = observer
        self._nodes: dict[int, Node] = {ROOT_INO: root}
        self._own = itertools.cycle(OWN_NUMBERS)
        self._questions = itertools.count(1)
        self.links: dict[int, list[tuple[Folder, str, str]]] = {}  # further names of a node: folder, key, spelling
        self._nameless = Nameless()
        self._pinned: dict[int, Node] = {}
        self._spellings: dict[tuple[int, str], set[bytes]] = {}  # what the kernel calls a name besides what is shown
        self.recent = RecentChanges()
        self.contested = Contested()
        root.lookups = 1  # the kernel never forgets the root

    def __len__(self) -> int:
        return len(self._nodes)

    def ask(self, now: float) -> Asked:
        """Number a question that is about to be sent."""
        return Asked(next(self._questions), now)

    def get(self, ino: int) -> Node:
        """Return the node of a number.  Raises: SmbError (ESTALE: the kernel has forgotten it, or never had it)."""
        try:
            return self._nodes[ino]
        except KeyError:
            raise SmbError(f"no inode {ino:#x}", errno=posix.ESTALE) from None

    def folder(self, ino: int) -> Folder:
        """Return the folder of a number.  Raises: SmbError (ESTALE, ENOTDIR)."""
        node = self.get(ino)
        if not isinstance(node, Folder):
            raise SmbError(f"{node.name!r} is not a folder", errno=posix.ENOTDIR)
        return node

    def locate(self, node: Node) -> tuple[ShareRoot, str]:
        """Return the share of a node and its path there.  Raises: SmbError (ESTALE: its name is gone)."""
        root = share_root(node)
        names: list[str] = []
        at: Node | None = node
        while at is not None and at is not root:
            names.append(at.name)
            at = at.parent
        return root, "/".join(reversed(names))

    def home(self, node: Node) -> ShareRoot:
        """Return the share of a node, of one that has lost its name too.  Raises: SmbError (ESTALE)."""
        return self._nameless.home(node) or share_root(node)

    def moved(self, node: Node, asked: Asked) -> bool:
        """Tell whether a node has another path than when a question about it was asked: the answer is about nobody."""
        folder = node.parent
        return folder is not None and self.recent.overtook(folder, node.key, asked.number)

    def nameless(self, node: Node) -> bool:
        """Tell whether the file has lost its last known name: deleted or replaced while the kernel still holds it."""
        return node in self._nameless

    # -- names

    def find(self, folder: Folder, names: Names, name: str) -> tuple[str, Node | None]:
        """Return the key under which `name` is kept in a folder, and the node that is known there."""
        key = names.key(name)
        node = folder.children.get(key)
        if node is not None and self.spelling(node, folder, key) != name and TWIN + name in folder.children:
            return TWIN + name, folder.children[TWIN + name]
        return key, node

    def certain(self, folder: Folder, key: str, node: Node, name: str, shown: bytes) -> bool:
        """Tell whether `name` surely is this node: spelt so by the server, or proven before.

        A server that ignores case may have two files that differ in nothing else, put there from its own side.
        """
        return self.spelling(node, folder, key) == name or shown in self._spellings.get((folder.ino, key), ())

    def note_spelling(self, folder: Folder, key: str, shown: bytes) -> None:
        """Remember that the kernel calls a known name otherwise than its folder shows it."""
        self._spellings.setdefault((folder.ino, key), set()).add(shown)

    def place(
        self,
        folder: Folder,
        name: str,
        stat: FileStat,
        asked: Asked,
        *,
        listed: bool = False,
        made: bool = False,
        record: bytes = b"",
    ) -> Node:
        """Return the node for what the server says of a folder's `name`: the known one, brought up to date, or another.

        An answer older than what is known changes nothing. `listed`: the spelling is the server's own. `made`: it is a
        new file, none that was known by another name. `record` is the same answer packed, where it is at hand.
        """
        home = share_root(folder)
        key, node = self.find(folder, home.names, name)
        if node is not None:
            if node.record == record:
                return node  # this very answer has told it already
            known = node.known()
            if home.same_file(known.stat, stat) or home.ids_waver(known, name, stat):
                own_name = listed and node.parent is folder and node.key == key
                self._learn(node, known, stat, asked, name if own_name else known.name, record)
                return node
            if self.spelling(node, folder, key) != name:
                key = TWIN + name  # and free, or `find` had found it
            elif asked.number < known.asked.number:
                return node
            else:
                self.detach(folder, key)
        return self._settle(home, folder, key, name, stat, record or pack(asked, 0, stat, name), made=made)

    def refresh(self, node: Node, stat: FileStat, asked: Asked) -> bool:
        """Take the answer to a question about a node's path; False: another file has that name now."""
        home = share_root(node)
        known = node.known()
        if node.parent is None or home.same_file(known.stat, stat) or home.ids_waver(known, known.name, stat):
            self._learn(node, known, stat, asked, known.name)
            return True
        if asked.number >= known.asked.number:
            self.detach(node.parent, node.key)
        return False

    def told(self, node: Node, stat: FileStat, asked: Asked) -> None:
        """Take the answer to a question by a handle: it speaks of a file that has lost its name, too."""
        if self.nameless(node):
            self._learn(node, node.known(), stat, asked, node.name)
        else:
            self.refresh(node, stat, asked)

    def changed_here(self, node: Node, stat: FileStat, at: float | None = None) -> None:
        """Record what we have changed ourselves: answers to questions that were asked before now are ignored.

        What is kept of the content is not dropped: whoever changed it knows. `at`: when the change was sent, if `stat`
        is what the server said afterwards; None: nothing new was learnt, and the rest is as old as it was.
        """
        known = node.known()
        asked = Asked(next(self._questions), known.asked.at if at is None else at)
        node.record = pack(asked, known.generation, stat if at is None else refined(stat, known.stat), known.name)
        self.recent.echoes.note(node.ino)

    def doubt(self, node: Node) -> None:
        """Have a node's attributes asked for again: we have changed them and do not know how."""
        node.record = reasked(node.record, Asked(next(self._questions), -math.inf))

    def renew(self, node: Node) -> None:
        """Make a node another file to the kernel, under the same number: it tells the two by the generation."""
        known = node.known()
        node.record = pack(known.asked, known.generation + 1, known.stat, known.name)

    def doubt_name(self, folder: Folder, key: str) -> None:
        """Have a name asked for again, by the kernel too: somebody else may have given it to another file.

        The kernel is not told of a folder: it would take it from programs whose working folder it is.
        """
        node = folder.children[key]
        node.outdate()
        if not isinstance(node, Folder):
            self._name_gone(share_root(folder), node, folder, key, None)

    def lost(self, node: Node, asked: Asked) -> None:
        """Take the answer that there is nothing at a node's path."""
        if node.parent is not None and asked.number >= node.asked.number:
            self.detach(node.parent, node.key)

    def detach(self, folder: Folder, key: str, told: bytes | None = None, *, removed: bool = False) -> None:
        """Cut a name that is gone, or stands for another file now. The node lives on while the kernel holds it.

        `told`: the spelling under which the kernel itself has asked for the change. `removed`: see `Nameless.note`.
        """
        node = folder.children.pop(key)
        home = node if isinstance(node, ShareRoot) else share_root(folder)
        self._name_gone(home, node, folder, key, told)
        others = self.links.get(node.ino, [])
        if node.parent is not folder or node.key != key:
            others[:] = [other for other in others if other[:2] != (folder, key)]
        elif others:
            node.parent, node.key, name = others.pop()
            known = node.known()
            node.record = pack(known.asked, known.generation, known.stat, name)
        else:
            node.parent = None
            self._nameless.note(node, home, removed=removed)
        if not others:
            self.links.pop(node.ino, None)
        self.collect(node)

    def rename(self, folder: Folder, key: str, new_folder: Folder, name: str, told: tuple[bytes, bytes]) -> None:
        """Give a name of a node another place, which is free or a spelling of the same name: we have renamed it.

        `told`: old and new name as the kernel has asked.
        """
        node = folder.children.pop(key)
        home = share_root(new_folder)
        self._name_gone(home, node, folder, key, told[0])
        new_key = home.names.key(name)
        if new_key in new_folder.children:
            new_key = TWIN + name
        new_folder.children[new_key] = node
        if node.parent is folder and node.key == key:
            node.parent, node.key = new_folder, new_key
            known = node.known()
            node.record = pack(Asked(next(self._questions), -math.inf), known.generation, known.stat, name)
        else:
            places = self.links[node.ino]
            places[:] = [place for place in places if place[:2] != (folder, key)]
            places.append((new_folder, new_key, name))
            self.doubt(node)
        if isinstance(node, Folder):
            node.believed_from = next(self._questions)
        if home.names.shown(name) != told[1]:
            self.note_spelling(new_folder, new_key, told[1])
        self.collect(folder)

    def link(self, folder: Folder, key: str, name: str, node: Node) -> None:
        """Give a node a further name, which is free: we have linked it."""
        folder.children[key] = node
        self.links.setdefault(node.ino, []).append((folder, key, name))

    # -- life

    def count(self, node: Node) -> None:
        """Count that the kernel was given the node."""
        node.lookups += 1

    def forget(self, ino: int, lookups: int) -> None:
        """Take back `lookups` of what `count` gave. Never raises: the kernel waits for no answer."""
        node = self._nodes.get(ino)
        if node is None or node is self.root:
            return
        node.lookups = max(0, node.lookups - lookups)
        self.collect(node)

    def pin(self, node: Node) -> None:
        """Keep a node while a file or folder is open."""
        node.pins += 1
        self._pinned[node.ino] = node

    def unpin(self, node: Node) -> None:
        """Undo one `pin`."""
        node.pins -= 1
        if not node.pins:
            self._pinned.pop(node.ino, None)
        self.collect(node)

    def pinned_below(self, folder: Folder) -> list[Node]:
        """Return the nodes below a folder that are pinned."""
        return [node for node in self._pinned.values() if is_below(node, folder)]

    def collect(self, node: Node) -> None:
        """Drop a node that nobody holds any longer, and the folders above that were kept for it alone."""
        at: Node | None = node
        while at is not None and at is not self.root and self._nodes.get(at.ino) is at and at.is_unused:
            del self._nodes[at.ino]
            self._nameless.drop(at.ino)
            above = at.parent
            for folder, key, _ in self.links.pop(at.ino, ()):
                del folder.children[key]
                self._forget_spellings(folder, key)
                if folder is not above:
                    self.collect(folder)
            if above is not None:
                del above.children[at.key]
                self._forget_spellings(above, at.key)
            self.observer.node_gone(at.ino)
            at = above

    # -- numbers

    def adopt(self, folder: Folder, node: Node) -> None:
        """Enter a node made elsewhere (a share's root) under its folder and key."""
        folder.children[node.key] = node
        self._nodes[node.ino] = node

    def own_number(self) -> int:
        """Return a free number of our own. Used numbers come again only after all 2^56."""
        return next(ino for ino in self._own if ino not in self._nodes)

    def _settle(
        self, home: ShareRoot, folder: Folder, key: str, name: str, stat: FileStat, record: bytes, *, made: bool
    ) -> Node:
        """Give a newly seen name its node: a known file's, or a new one with a number by the rules above."""
        ino = self._server_number(home, stat)
        lookups = 0
        holder = self._nodes.get(ino)
        if ino == 0:
            ino = self.own_number()
        elif holder is not None:
            known = holder.known()
            if not self.nameless(holder):
                if is_in(holder, home) and may_be_linked(known.stat, stat):
                    self.link(folder, key, name, holder)
                    self._learn(holder, known, stat, asked_of(record), known.name)
                    return holder
                ino = self.own_number()
            elif not made and self._nameless.may_be(holder, home, stat):
                return self._rename(folder, key, name, holder, known, stat, asked_of(record))
            elif holder.pins:
                ino = self.own_number()
            else:
                # Deleted, not open, and its number used again: the kernel tells the two by the generation. It will
                # take back what it was given of both under this one number.
                lookups = holder.lookups
                record = pack(asked_of(record), known.generation + 1, stat, name)
                self._nameless.drop(ino)
                self.observer.node_gone(ino)
        kind = Folder if stat.kind is Kind.DIRECTORY else Node
        node = kind(ino, folder, key, record)
        node.lookups = lookups
        self.adopt(folder, node)
        return node

    def _server_number(self, home: ShareRoot, stat: FileStat) -> int:
        usable = home.trusts_ids and ROOT_INO < stat.file_id < U64 and stat.file_id not in OWN_NUMBERS
        return stat.file_id if usable else 0

    def _rename(
        self, folder: Folder, key: str, name: str, node: Node, known: Known, stat: FileStat, asked: Asked
    ) -> Node:
        self._nameless.drop(node.ino)
        node.parent, node.key = folder, key
        folder.children[key] = node
        node.record = pack(known.asked, known.generation, known.stat, name)
        self._learn(node, node.known(), stat, asked, name)
        return node

    def _learn(self, node: Node, known: Known, stat: FileStat, asked: Asked, name: str, record: bytes = b"") -> None:
        """Take an answer; `record` is the same packed, where it is at hand."""
        if asked.number < known.asked.number:
            return
        asked = asked._replace(at=known.asked.at) if known.asked.told_since(asked) else asked
        stat = refined(stat, known.stat)
        learnt = Known(asked, known.generation, stat, name)
        node.record = record if record and unpack(record) == learnt else pack(*learnt)
        if node.parent is not None and name != known.name:
            shown = share_root(node).names.shown(known.name)
            self.observer.name_gone(node.parent, node.key, [shown])
        if stat.kind is Kind.FILE and version(stat) != version(known.stat):
            self.observer.content_changed(node, stat)

    # -- spellings

    def spelling(self, node: Node, folder: Folder, key: str) -> str:
        """Return how the server spells one name of a node, which may have several."""
        if node.parent is folder and node.key == key:
            return node.name
        return next((name for at, k, name in self.links.get(node.ino, ()) if at is folder and k == key), node.name)

    def _name_gone(self, home: ShareRoot, node: Node, folder: Folder, key: str, told: bytes | None) -> None:
        shown = {home.names.shown(self.spelling(node, folder, key)), *self._forget_spellings(folder, key)} - {told}
        self.observer.name_gone(folder, key, shown)

    def _forget_spellings(self, folder: Folder, key: str) -> set[bytes]:
        return self._spellings.pop((folder.ino, key), set())
