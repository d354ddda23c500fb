"""What others change, as the server tells it: let go of exactly that before its time is over, here and in the kernel.

A share is watched from its root on, if anything is believed of it and the server can (ADR 18). Nothing lasts longer
because it is watched: a server may tell late, or not all. What is told of a name that nobody here knows is nothing to
us. What is told as "anything", after a lost connection too, means all that is known of the share.

The server tells what we have changed ourselves as well. So what is told of a name, or of a file, that was changed here
a moment ago waits until the moment is over, and is dropped if something newer is known by then: a change of our own
costs no listing, and another's at the same moment is seen a moment later. Where nothing is believed for longer than
such a moment, it is dropped at once: what is known is gone before it would be looked at.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import trio

from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import Features, Happened, Notice, ShareSource, Watch
from smbfuse.vfs.attrs import AbsentNames, Lifetimes
from smbfuse.vfs.blocks import Spawn
from smbfuse.vfs.bypath import renew_unasked
from smbfuse.vfs.directory import OpenDirectories
from smbfuse.vfs.inode import Folder, Node, ShareRoot
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.recent import ECHO_S

log = logging.getLogger(__name__)

PAUSE_S: Final = 10.0  # between two attempts to watch where there is no connection; doubled while none succeeds,
PAUSE_MAX_S: Final = 640.0  # up to this: it may be the watching that ends the connection
REST_S: Final = 1.0  # after "anything" was told: what happens meanwhile, the server keeps, or calls "anything" again;
REST_MAX_S: Final = 16.0  # doubled up to this while nothing else is told
FEW: Final = 4  # requests that a server takes at once: if fewer, none is left to stand for what soon lapses by itself
ALL_MAX: Final = 10_000  # nodes that are worth doubting each for what lapses by itself in a moment
CHUNK: Final = 256  # nodes doubted before other tasks get their turn
VERIFIED_MAX: Final = 64  # folders asked for by name after "anything" was told


class _Waiting(NamedTuple):
    """What was told of a name that we have changed ourselves."""

    root: ShareRoot
    notice: Notice
    at: float


class RemoteChanges:
    """Watches the shares of a mount."""

    def __init__(
        self,
        source: ShareSource,
        nodes: NodeTable,
        absent: AbsentNames,
        lifetimes: Lifetimes,
        directories: OpenDirectories,
        kernel: KernelCache,
        spawn: Spawn,
    ) -> None:
        self._source = source
        self._nodes = nodes
        self._absent = absent
        self._lifetimes = lifetimes
        self._directories = directories
        self._kernel = kernel
        self._spawn = spawn
        self._briefly = max(lifetimes.attributes_s, lifetimes.listing_s) <= ECHO_S  # is anything believed
        self._waiting: dict[tuple[int, str], _Waiting] = {}
        self._ticking = False

    def watch(self, root: ShareRoot) -> None:
        """Begin to watch a share, if anything is believed of it and the server can."""
        spared = self._briefly and root.share.limits.in_flight < FEW
        if self._lifetimes.watched and Features.NOTIFY in root.share.features and not spared:
            self._spawn(self._watch, root)

    async def _watch(self, root: ShareRoot) -> None:
        watch: Watch | None = None
        pause_s, rest_s = PAUSE_S, REST_S
        try:
            while True:
                try:
                    if watch is None:
                        watch = await root.share.watch("")
                        if not self._briefly:
                            await self._doubt_all(root)  # what was asked for before it
                        continue
                    notices = await watch.notices()
                except (ConnectionLost, Timeout) as error:
                    log.debug("share=%s not watched now: %s", root.share.name, error)
                    await self._connected(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
                    continue
                pause_s = PAUSE_S
                for notice in notices:
                    await self._take(root, notice)
                if any(notice.what is Happened.ANYTHING for notice in notices):
                    await trio.sleep(rest_s)
                    rest_s = min(2 * rest_s, REST_MAX_S)
                else:
                    rest_s = REST_S
        except SmbError as error:
            log.info("share=%s not watched any longer: %s", root.share.name, error)
            await self._doubt_all(root)
        finally:
            if watch is not None:
                await watch.aclose()

    async def _connected(self, pause_s: float) -> None:
        """Wait a while, then until the server may be within reach. To ask for it would have it dialled more often."""
        while True:
            await trio.sleep(pause_s)
            if self._source.reachable:
                return
            pause_s = PAUSE_S

    async def _take(self, root: ShareRoot, notice: Notice) -> None:
        if notice.what is Happened.ANYTHING:
            await self._doubt_all(root)
            return
        if notice.what is Happened.RENAMED:
            self._hear(_Waiting(root, Notice(Happened.REMOVED, notice.old_path), trio.current_time()))
            notice = Notice(Happened.ADDED, notice.path)
        self._hear(_Waiting(root, notice, trio.current_time()))

    # -- one name

    def _hear(self, told: _Waiting) -> None:
        root, notice, _ = told
        folder, name = self._folder_of(root, notice.path)
        if folder is None or root.names.key(name) in root.hidden:
            return
        key, node = self._nodes.find(folder, root.names, name)
        echoes = self._nodes.recent.echoes.until((folder.ino, key), *(() if node is None else (node.ino,)))
        if echoes > trio.current_time():
            if self._briefly:
                return
            before = self._waiting.get((folder.ino, key))
            if before is not None and notice.what is Happened.MODIFIED:
                told = told._replace(notice=before.notice)  # that the name has come or gone is not to be forgotten
            self._waiting[folder.ino, key] = told
            if not self._ticking:
                self._ticking = True
                self._spawn(self._tick)
        elif node is None or node.asked.at <= told.at:
            self._let_go(root, folder, name, key, node, notice.what)

    def _folder_of(self, root: ShareRoot, path: str) -> tuple[Folder | None, str]:
        """Return the folder of a path, None if nothing is known of it here, and the name in it."""
        *above, name = path.split("/")
        at: Folder = root
        for part in above:
            _, node = self._nodes.find(at, root.names, part)
            if not isinstance(node, Folder):
                return None, name
            at = node
        return at, name

    def _let_go(self, root: ShareRoot, folder: Folder, name: str, key: str, node: Node | None, what: Happened) -> None:
        """Believe no longer what is known of one name, or of the attributes of what it stands for."""
        shown = root.names.shown(name)
        if what is Happened.MODIFIED:
            if node is not None:
                if self._lifetimes.loose:
                    self._nodes.doubt_name(folder, key)  # by which alone the kernel hears of another size; see `told`
                self._doubt(node)
            else:
                self._directories.told(folder, shown, there=None)
            return
        self._directories.told(folder, shown, there=what is Happened.ADDED)
        self._nodes.recent.note(folder, key, self._nodes.ask(-math.inf).number)
        if missing := self._absent.appeared(folder.ino, key):
            self._nodes.observer.name_gone(folder, key, missing)
        if node is not None:
            self._nodes.doubt_name(folder, key)
            if isinstance(node, Folder):
                self._spawn(self._verify, [node])
        self._doubt(folder)

    def _doubt(self, node: Node) -> None:
        node.outdate()
        if node.lookups:  # the kernel may believe of an open file what is believed of its name no longer
            self._kernel.invalidate_inode(node.ino, True)

    async def _tick(self) -> None:
        """Come back to what has waited, as soon as the moment of our own change is over."""
        try:
            while self._waiting:
                await trio.sleep(ECHO_S)
                waiting, self._waiting = self._waiting, {}
                for told in waiting.values():
                    self._hear(told)
        finally:
            self._ticking = False

    # -- everything

    async def _doubt_all(self, root: ShareRoot) -> None:
        """Believe nothing of a share any longer; what is not believed any more anyhow is left alone."""
        if self._briefly and len(self._nodes) > ALL_MAX:
            return
        root.believed_from = self._nodes.ask(-math.inf).number
        folders: list[Folder] = []
        missed = self._absent.folders()
        for number, node in enumerate(_all_in(root), 1):
            if isinstance(node, Folder):
                self._directories.outgrow(node)
                for key, spellings in self._absent.forget(node.ino) if node.ino in missed else ():
                    self._nodes.observer.name_gone(node, key, spellings)
            if self._lifetimes.left(node.asked.at, trio.current_time()) > 0 and not self._nodes.nameless(node):
                if isinstance(node, Folder):
                    folders.append(node)
                elif node.parent is not None:
                    self._nodes.doubt_name(node.parent, node.key)
                self._doubt(node)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()
        self._spawn(self._verify, [folder for folder in folders if folder is not root][:VERIFIED_MAX])

    async def _verify(self, folders: Sequence[Folder]) -> None:
        """Ask for folders by name: the kernel was not told to, and goes on to believe what it knows of them."""
        for folder in folders:
            await renew_unasked(self._nodes, folder)


def _all_in(folder: Folder) -> Iterator[Node]:
    """Yield a folder and what is known below it, as each folder is when its turn comes."""
    yield folder
    for node in list(folder.children.values()):
        if isinstance(node, Folder):
            yield from _all_in(node)
        else:
            yield node
