"""A share that outlives its connections: dialled again when lost, and every call answered truly.

Theory of operation. A `Supervisor` owns the login, a `Tree` the tree connection on it; each counts its incarnations.
`ReconnectingShare` stands in front of the dialect's share. What a loss interrupts is

* repeated on the new connection where twice is once: looking, listing, reading, writing at an offset, setting
  attributes, and opening without exclusive creation;
* looked for on the server where it is not, and repeated only if it was not executed (`replay`): making, linking,
  removing, renaming.

Handles of an older incarnation are void: files are reclaimed, or opened again and proven to be the same (`reopening`,
by what `evidence` keeps), listings are begun again without the names already given (`relisting`), watches by path
(`rewatching`). A grant ends with its connection: its holder is told at once, and a handle that is opened again asks for
it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from smbfuse.client import replay
from smbfuse.client.evidence import Evidence, Moment
from smbfuse.client.handles import Holding, OpenHandles
from smbfuse.client.protection import Protection
from smbfuse.client.relisting import ReconnectingDirectory
from smbfuse.client.reopening import ReconnectingFile, Reopening
from smbfuse.client.rewatching import ReconnectingWatch
from smbfuse.client.supervisor import Supervisor
from smbfuse.client.tree import Tree
from smbfuse.errors import ConnectionLost, Exists, SmbError
from smbfuse.share import (
    Buffer,
    Change,
    Creation,
    DurableOpen,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Limits,
    LinkForm,
    Opened,
    OpenFile,
    OpenIntent,
    Share,
    ShareStatistics,
    Space,
)

T = TypeVar("T")


class ReconnectingShare:
    """A `Share` whose calls survive the loss of the connection.

    `path` is the folder of the share that the mount shows as its root.
    """

    def __init__(self, supervisor: Supervisor, name: str, *, path: str = "") -> None:
        self.name = name
        self.evidence = Evidence()
        self._supervisor = supervisor
        self._path = path
        self._handles = OpenHandles(lambda: Features.CASE_SENSITIVE in self.features)
        self._tree = Tree(supervisor, name, self._lost)

    @property
    def limits(self) -> Limits:
        return self._known().limits

    @property
    def features(self) -> Features:
        return self._known().features

    @property
    def incarnation(self) -> int:
        return self._tree.incarnation

    async def connect(self) -> None:
        """Connect the tree now.  Raises: NotFound, Denied, and all that a dial may raise."""
        await self.repeat(_nothing)

    async def stat(self, path: str) -> FileStat:
        asked = self.evidence.now()
        stat = await self.repeat(lambda share: share.stat(self._below(path)))
        self.evidence.told(stat, asked)
        return stat

    async def open(self, path: str, intent: OpenIntent) -> ReconnectingFile:
        below = self._below(path)
        durable = DurableOpen() if intent.write else None
        if intent.creation is Creation.NEVER and not intent.truncate:
            return await self.repeat(lambda share: self._open(share, below, intent, durable))
        began = trio.current_time()
        tries = 0
        protection = Protection()

        async def attempt(share: Share) -> ReconnectingFile:
            nonlocal tries
            tries += 1
            file = await self._open(share, below, intent, durable)
            if tries > 1 and intent.creation is Creation.IF_ABSENT and not file.created:
                # Perhaps the attempt whose answer was lost has made it.
                file.created = replay.is_new_file(file.stat, self._tree.doubt(began, trio.current_time()))
            return file

        lost_again: float | None = None  # when what the server could have known again was lost once more

        async def look(share: Share, doubt: replay.Doubt) -> ReconnectingFile | None:
            nonlocal lost_again
            if durable is not None and durable.in_doubt:
                # Answered as before by a server that knows the request again; made now, if it never came.
                try:
                    return await self._open(share, below, intent, durable)
                except ConnectionLost:
                    lost_again = trio.current_time()
                    raise
                except Exists:
                    if lost_again is not None:
                        doubt = self._tree.doubt(began, lost_again)
            made = await replay.file_made(share, below, doubt)
            if made is None:
                return None
            again = dataclasses.replace(intent, creation=Creation.NEVER, truncate=False)
            opener = functools.partial(protection.open, is_ours=lambda stat: stat.file_id == made.file_id)
            file = await self._open(share, below, again, DurableOpen() if intent.write else None, opener)
            file.created = True
            return file

        with self._changing(below, size=0) if intent.truncate else contextlib.nullcontext():
            if intent.creation is Creation.EXCLUSIVE:
                return await self._tree.once(attempt, look)
            return await self.repeat(attempt)

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        wanted = [(self._below(path), intent, self.holding(intent.holder)) for path, intent in files]

        async def attempt(share: Share) -> None:
            asked, incarnation = self.evidence.now(), self.incarnation

            def adopt(index: int, result: OpenFile | SmbError) -> None:
                if not isinstance(result, SmbError):
                    result = self._adopt(*wanted[index], result, asked, incarnation)
                opened(index, result)

            await share.open_ahead([(below, _held(intent, holding)) for below, intent, holding in wanted], adopt)

        await self.repeat(attempt)

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> ReconnectingDirectory:
        below = self._below(path)

        async def attempt(share: Share) -> ReconnectingDirectory:
            incarnation, holding = self.incarnation, self.holding(holder)
            listing = await share.open_directory(below, holding)
            directory = ReconnectingDirectory(self, below, holder, listing, incarnation, holding)
            self._handles.add(directory)
            return directory

        return await self.repeat(attempt)

    async def watch(self, path: str, *, recursive: bool = True) -> ReconnectingWatch:
        below = self._below(path)

        async def attempt(share: Share) -> ReconnectingWatch:
            incarnation = self.incarnation
            watch = await share.watch(below, recursive=recursive)
            standing = ReconnectingWatch(self, below, watch, incarnation, recursive=recursive)
            self._handles.add(standing)
            return standing

        return await self.repeat(attempt)

    async def read_link(self, path: str) -> str:
        return await self.repeat(lambda share: share.read_link(self._below(path)))

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        below = self._below(path)
        return await self._tree.once(
            lambda share: share.make_directory(below, mode),
            lambda share, doubt: replay.folder_made(share, below, doubt),
        )

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        below = self._below(path)
        return await self._tree.once(
            lambda share: share.make_link(below, target, form),
            lambda share, doubt: replay.link_made(share, below, target, doubt),
        )

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        below = self._below(path)
        return await self._tree.once(
            lambda share: share.make_node(below, kind, device, mode, form),
            lambda share, doubt: replay.node_made(share, below, kind, device, doubt),
        )

    async def link(self, existing: str, path: str) -> None:
        file, name = self._below(existing), self._below(path)

        async def call(share: Share) -> bool:
            await share.link(file, name)
            return True

        with self._changing(file):
            await self._tree.once(call, lambda share, doubt: replay.linked(share, file, name))

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        below = self._below(path)

        async def call(share: Share) -> bool:
            await share.remove(below, kind, self.holding(holder))
            return True

        with self._changing(below):
            await self._tree.once(call, lambda share, doubt: replay.removed(share, below, doubt))
        self._handles.removed(below)

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        old, new = self._below(source), self._below(target)
        open_as = next((file.known.stat for file in self._handles.files_at(old)), None)

        async def call(share: Share) -> bool:
            await share.rename(old, new, replace=replace, holder=self.holding(holder))
            return True

        with self._handles.renaming(old, new), self._changing(old, new):
            await self._tree.once(call, lambda share, doubt: replay.renamed(share, old, new, open_as))

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        below = self._below(path)
        with self._changing(below, size=change.size):
            stat = await self.repeat(lambda share: share.change(below, change, self.holding(holder)))
        for file in self._handles.files_at(below):
            file.time_was_set(change)
        return stat

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        return await self.repeat(lambda share: share.extended_attributes(self._below(path)))

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        below = self._below(path)
        with self._changing(below):
            await self.repeat(lambda share: share.set_extended_attribute(below, name, value))

    async def security_descriptor(self, path: str) -> bytes:
        return await self.repeat(lambda share: share.security_descriptor(self._below(path)))

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        below = self._below(path)
        with self._changing(below):
            await self.repeat(lambda share: share.set_security_descriptor(below, descriptor))

    async def space(self) -> Space:
        return await self.repeat(lambda share: share.space())

    async def echo(self) -> None:
        await self.repeat(lambda share: share.echo())

    async def aclose(self) -> None:
        """Close what is open and disconnect the tree; the login stays for other shares."""
        await self._tree.aclose(self._handles.aclose)

    def statistics(self) -> ShareStatistics:
        return dataclasses.replace(self._known().statistics(), connects=self._supervisor.incarnation)

    # -- for the handles

    async def repeat(self, call: Callable[[Share], Awaitable[T]]) -> T:
        """Make a call that may be repeated; see `Tree.repeat`."""
        return await self._tree.repeat(call)

    def in_force(self, incarnation: int) -> bool:
        """Tell whether a handle of `incarnation` still stands."""
        return self._tree.in_force(incarnation)

    async def renames_ended(self, path: str) -> bool:
        """Wait for the renames under way that concern `path`; return whether there were any."""
        return await self._handles.renames_ended(path)

    def holding(self, holder: GrantHolder | None) -> Holding | None:
        """Return who stands for `holder` on the present connection."""
        return self._handles.holding(holder)

    def closed(self, handle: Reopening) -> None:
        """Hear that a handle was given back."""
        self._handles.discard(handle)

    # -- inside

    async def _open(
        self,
        share: Share,
        below: str,
        intent: OpenIntent,
        durable: DurableOpen | None,
        opener: Callable[[Share, str, OpenIntent], Awaitable[OpenFile]] | None = None,
    ) -> ReconnectingFile:
        asked, incarnation = self.evidence.now(), self.incarnation
        holding = self.holding(intent.holder)
        held = _held(intent, holding, durable)
        if opener is not None:
            file = await opener(share, below, held)
        else:
            file = await share.open(below, held)
        return self._adopt(below, intent, holding, file, asked, incarnation, durable)

    def _adopt(
        self,
        below: str,
        intent: OpenIntent,
        holding: Holding | None,
        file: OpenFile,
        asked: Moment,
        incarnation: int,
        durable: DurableOpen | None = None,
    ) -> ReconnectingFile:
        known = self.evidence.opened(below, file.stat, asked)
        handle = ReconnectingFile(self, below, intent, file, incarnation, known, holding, durable)
        self._handles.add(handle)
        return handle

    @contextlib.contextmanager
    def _changing(self, *paths: str, size: int | None = None) -> Iterator[None]:
        """Go through a change by path, of the size or of something else: what is open there is known to be changed."""
        knowns = {file.known for path in paths for file in self._handles.files_at(path)}
        begun = [(known, known.begin(size=size)) for known in knowns]
        self.evidence.changed_by_path()
        done = False
        try:
            yield
            done = True
        finally:
            for known, clock in begun:
                known.end(clock, size=size, done=done)
            self.evidence.changed_by_path()

    def _lost(self) -> None:
        self.evidence.lost()
        self._handles.lost()

    def _known(self) -> Share:
        if self._tree.share is None:
            raise ConnectionLost(f"{self.name} is not connected", sent=False)
        return self._tree.share

    def _below(self, path: str) -> str:
        return f"{self._path}/{path}" if self._path and path else self._path or path


def _held(intent: OpenIntent, holding: Holding | None, durable: DurableOpen | None = None) -> OpenIntent:
    if durable is not None:
        return dataclasses.replace(intent, holder=holding, durable=durable)
    return intent if holding is None else dataclasses.replace(intent, holder=holding)


async def _nothing(share: Share) -> None:
    """Need nothing but the connection itself."""
