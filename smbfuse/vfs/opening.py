"""What an open(2) is for, what is asked of the share for it, and how what was opened is taken in."""

import dataclasses
import errno as posix
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from smbfuse.errors import Denied, NotFound, SmbError
from smbfuse.share import Creation, FileStat, Kind, OpenFile, OpenIntent, Share
from smbfuse.vfs.attrs import Asked, kind_and_size, version
from smbfuse.vfs.blocks import BlockCache, Spawn
from smbfuse.vfs.breaks import Breaks
from smbfuse.vfs.content import Content
from smbfuse.vfs.grants import READING, WRITING, Grant
from smbfuse.vfs.inode import Node
from smbfuse.vfs.nodes import NodeTable
from smbfuse.vfs.posix import KernelCache
from smbfuse.vfs.sharedfile import SharedFile

FIRST_BYTES: Final = 64 << 10  # a file no larger is brought whole by its open
FORGET_WITHIN_S: Final = 1.0  # longest wait for the kernel at an open; it takes a moment if it can at all


@dataclass(frozen=True, slots=True)
class Opening:
    """The open of a file that is about to be made: what to ask of the share, and with whose grant."""

    intent: OpenIntent
    grant: Grant
    flags: int


def prepare(flags: int, mode: int, *, cached: bool) -> Opening:
    """Return how to open a file that is about to be made by that open. `cached`: a grant is of use."""
    _, write = wants(flags)
    grant = Grant()
    intent = OpenIntent(
        read=True,
        write=write,
        creation=Creation.EXCLUSIVE if flags & os.O_EXCL else Creation.IF_ABSENT,
        truncate=bool(flags & os.O_TRUNC),
        mode=mode,
        holder=grant if cached else None,
        wanted=WRITING if write else READING,
    )
    return Opening(intent, grant, flags)


def wants(flags: int) -> tuple[bool, bool]:
    """Return whether an open is to read, and to write; emptying a file is writing."""
    mode = flags & os.O_ACCMODE
    return mode != os.O_WRONLY, mode != os.O_RDONLY or bool(flags & os.O_TRUNC)


def refuse(node: Node) -> None:
    """Raise SmbError unless a node is a regular file: with EISDIR, ELOOP (a symlink), ENXIO."""
    kind, _ = kind_and_size(node.record)
    if kind is Kind.DIRECTORY:
        raise SmbError(f"{node.name!r} is a folder", errno=posix.EISDIR)
    if kind is Kind.SYMLINK:
        raise SmbError(f"{node.name!r} is a symlink", errno=posix.ELOOP)
    if kind is not Kind.FILE:
        raise SmbError(f"{node.name!r} is no regular file", errno=posix.ENXIO)


class _Question(NamedTuple):
    """An open that is asked of the server."""

    file: SharedFile
    share: Share
    path: str
    intent: OpenIntent
    asked: Asked
    told_size: int  # what was known before


class Opener:
    """Gives shared files their handles on the server."""

    def __init__(
        self,
        nodes: NodeTable,
        blocks: BlockCache,
        content: Content,
        breaks: Breaks,
        kernel: KernelCache,
        spawn: Spawn,
        *,
        cached: bool,
    ) -> None:
        self._nodes = nodes
        self._blocks = blocks
        self._content = content
        self._breaks = breaks
        self._kernel = kernel
        self._spawn = spawn
        self._cached = cached

    async def open(self, file: SharedFile, *, read: bool, write: bool, truncate: bool) -> None:
        """Give a file a handle of the server's that does this; whose turn it is (`SharedFile.opening`) asks.

        Cost and errors: as `OpenFiles.open`.
        """
        node = file.node
        while True:
            question = self._question(file, read=read, write=write, truncate=truncate)
            reads = True
            try:
                try:
                    server = await question.share.open(question.path, question.intent)
                except Denied as error:
                    if read or error.errno == posix.EROFS:
                        raise
                    reads = False
                    server = await question.share.open(question.path, dataclasses.replace(question.intent, read=False))
            except NotFound:
                if node.parent is not None:
                    await node.parent.settled()
                if self._nodes.moved(node, question.asked) or self._nodes.nameless(node):
                    continue  # it was renamed here meanwhile, or replaced: who asked is to look the name up again
                self._nodes.lost(node, question.asked)
                raise
            break
        if self._entered(question, server, reads=reads):
            await self._forget_size(file)

    async def open_ahead(
        self, files: Sequence[SharedFile], ended: Callable[[SharedFile, SmbError | None], None]
    ) -> None:
        """Give files of one share handles to read, asked for all at once; each is told, open or why not.

        Cost: as `Share.open_ahead`.
        """
        questions: list[_Question] = []
        waiting = dict.fromkeys(files)

        def end(file: SharedFile, error: SmbError | None = None) -> None:
            del waiting[file]
            ended(file, error)

        async def end_resized(file: SharedFile) -> None:
            try:
                await self._forget_size(file)
            finally:
                ended(file, None)

        def opened(index: int, result: OpenFile | SmbError) -> None:
            question = questions[index]
            error = result if isinstance(result, SmbError) else None
            if not isinstance(result, SmbError):
                try:
                    if self._entered(question, result, reads=True):
                        del waiting[question.file]
                        self._spawn(end_resized, question.file)
                        return
                except SmbError as refused:
                    error = refused
            end(question.file, error)

        try:
            for file in files:
                try:
                    questions.append(self._question(file, read=True, write=False, truncate=False))
                except SmbError as error:
                    end(file, error)  # it has been renamed since
            if questions:
                await questions[0].share.open_ahead([(one.path, one.intent) for one in questions], opened)
        except SmbError as error:
            for file in tuple(waiting):
                end(file, error)
        finally:
            for file in tuple(waiting):
                end(file, SmbError("the filesystem is being unmounted"))

    def _question(self, file: SharedFile, *, read: bool, write: bool, truncate: bool) -> "_Question":
        node = file.node
        home, path = self._nodes.locate(node)
        stat = node.stat()
        intent = OpenIntent(
            # Who writes a part of a page needs the rest of it.
            read=True,
            write=write,
            first_bytes=self._first_bytes(node, stat, home.share) if read and not truncate else 0,
            truncate=truncate,
            holder=file.grant if self._cached else None,
            wanted=WRITING if write else READING,
        )
        return _Question(file, home.share, path, intent, self._nodes.ask(trio.current_time()), stat.size)

    def _entered(self, question: "_Question", server: OpenFile, *, reads: bool) -> bool:
        """Enter what was opened; True: the kernel believes another size of the file (see `_forget_size`).

        Plain: what is found here must still be so when it is entered. Raises: SmbError with ESTALE: another file.
        """
        file, intent = question.file, question.intent
        node = file.node
        if self._nodes.nameless(node) or not self._nodes.refresh(node, server.stat, question.asked):
            self._spawn(server.aclose)
            raise SmbError(f"{question.path!r} is another file now", errno=posix.ESTALE)
        stat = node.stat()
        if self._content.adopt(file, stat):
            self._content.drop_pages_soon(file)
        file.attach(server, reads=reads, writes=intent.write)
        file.grant.tell(self._breaks.listener(file))
        if self._cached and server.first is not None and not file.writes.unsaved:
            self._blocks.put(file.data, server.first[: file.size])
        return not intent.truncate and stat.size != question.told_size

    async def _forget_size(self, file: SharedFile) -> None:
        """Have the kernel forget the size of a file: one that believes the old size reads no further."""
        with trio.move_on_after(FORGET_WITHIN_S):
            await self._kernel.drop_pages(file.node.ino)

    def _first_bytes(self, node: Node, stat: FileStat, share: Share) -> int:
        """Return how much of a file its open shall bring: all of a small one that is not here yet."""
        if not self._cached or not 0 < stat.size <= FIRST_BYTES:
            return 0
        if self._blocks.holds(node.ino, version(stat), stat.size):
            return 0
        return min(FIRST_BYTES, share.limits.read)
