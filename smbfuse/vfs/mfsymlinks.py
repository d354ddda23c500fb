"""Symlinks in the form of Minshall and French: small files that clients agree to show as links.

    XSym
    0011
    c3fbc3aedd30f57ec6d99763e26075f6
    ../a/target

that is the length of the target in bytes, its MD5, the target, and spaces up to 1067 bytes. macOS, the kernel client
(`mfsymlinks`) and Samba's own clients make and read them; a server knows nothing of it. So it is a coat over the waist:
`MfSymlinks` is a share like the one it covers, whose files of that size and content are links. What they hold is asked
for once and remembered as long as the file stays the same.
"""

import errno as posix
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from smbfuse.errors import ConnectionLost, NotFound, SmbError, Timeout
from smbfuse.share import (
    Buffer,
    Caching,
    Change,
    Creation,
    DirEntry,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Limits,
    LinkForm,
    OpenDirectory,
    Opened,
    OpenFile,
    OpenIntent,
    Share,
    ShareSource,
    ShareStatistics,
    Space,
    Watch,
)
from smbfuse.vfs.names import from_wtf8
from smbfuse.vfs.undoing import Undoing

log = logging.getLogger(__name__)

SIZE: Final = 1067  # bytes, always
LONGEST_TARGET: Final = 1024  # bytes
REMEMBERED: Final = 4096  # files of that size, links or not
AT_ONCE: Final = 8  # reads for one page of a listing

_HEAD: Final = re.compile(rb"XSym\n(\d{4})\n([0-9a-f]{32})\n")


def encode(target: bytes) -> bytes:
    """Return the whole file; raises SmbError with ENAMETOOLONG."""
    if len(target) > LONGEST_TARGET:
        raise SmbError(f"{len(target)} bytes are too many for the target of such a symlink", errno=posix.ENAMETOOLONG)
    digest = hashlib.md5(target, usedforsecurity=False).hexdigest()
    head = b"XSym\n%04d\n%s\n%s" % (len(target), digest.encode(), target)
    return head if len(head) == SIZE else (head + b"\n").ljust(SIZE)


def decode(data: Buffer) -> bytes | None:
    """Return the target; None: the file is no link."""
    content = bytes(data)
    head = _HEAD.match(content) if len(content) == SIZE else None
    if head is None:
        return None
    length = int(head[1])
    target = content[head.end() : head.end() + length]
    if not target or length > LONGEST_TARGET:
        return None
    digest = hashlib.md5(target, usedforsecurity=False).hexdigest()
    return target if digest.encode() == head[2] else None


async def make(share: Share, path: str, target: bytes, undoing: Undoing) -> FileStat:
    """Make a link and return what it is; nothing stays of one that could not be written, as soon as `undoing` can.

    Cost: 2 round trips, and the close.
    Raises: SmbError with ENAMETOOLONG, and as `Share.open` and `OpenFile.write`.
    """
    content = encode(target)
    file = await share.open(path, OpenIntent(read=False, write=True, creation=Creation.EXCLUSIVE))
    try:
        if await file.write(0, [content]) != len(content):
            raise SmbError(f"only a part of the symlink {path!r} was written", errno=posix.EIO)
    except SmbError:

        async def remove() -> None:
            try:
                stat = await share.stat(path)
                # What is whole was written after all; what is another file's is nothing to us.
                if stat.kind is Kind.FILE and stat.file_id == file.stat.file_id and stat.size < SIZE:
                    await share.remove(path, Kind.FILE)
            except NotFound:
                pass
            except (ConnectionLost, Timeout):
                raise
            except SmbError as error:
                log.info("what was made of the symlink path=%r stays: %s", path, error)

        await undoing.undo(f"what was made of the symlink path={path!r} stays", remove)
        raise
    finally:
        await file.aclose()
    return file.stat._replace(kind=Kind.SYMLINK, size=len(target))


class MfSymlinkSource:
    """A source whose shares are covered. Implements `ShareSource`."""

    def __init__(self, source: ShareSource) -> None:
        self._source = source
        self._covers: dict[int, MfSymlinks] = {}  # by the identity of the share below, which lives as long

    @property
    def whole_server(self) -> bool:
        return self._source.whole_server

    @property
    def state(self) -> str:
        return self._source.state

    @property
    def reason(self) -> str:
        return self._source.reason

    @property
    def reachable(self) -> bool:
        return self._source.reachable

    def release(self) -> None:
        """Answer everybody who waits; see `ShareSource.release`."""
        self._source.release()

    def sleep(self) -> None:
        """Hear that this machine is about to sleep; see `ShareSource.sleep`."""
        self._source.sleep()

    def wake(self) -> None:
        """Hear that this machine is awake; see `ShareSource.wake`."""
        self._source.wake()

    async def share(self, name: str) -> Share:
        """Return a share, covered; see `ShareSource.share`."""
        return self._cover(await self._source.share(name))

    def connected(self) -> Sequence[Share]:
        """Return the shares connected so far, covered; see `ShareSource.connected`."""
        return [self._cover(share) for share in self._source.connected()]

    async def aclose(self) -> None:
        """Close every share; see `ShareSource.aclose`."""
        await self._source.aclose()

    def _cover(self, share: Share) -> "MfSymlinks":
        return self._covers.setdefault(id(share), MfSymlinks(share))


# What a file was when its content was read: if all of it is as it was, so is the content.
_Version = tuple[int, int | None, int | None, int | None]


def _version(stat: FileStat) -> _Version:
    return stat.file_id, stat.created_ns, stat.written_ns, stat.changed_ns


class MfSymlinks:
    """A share with its XSym files shown as symlinks. Implements `Share`.

    Cost beyond the share's own: 1 round trip for each file of 1067 bytes, once as long as it stays the same.
    """

    def __init__(self, share: Share) -> None:
        self.covered = share
        self._targets: OrderedDict[str, tuple[_Version, bytes | None]] = OrderedDict()

    # -- what is shown

    @property
    def name(self) -> str:
        return self.covered.name

    @property
    def limits(self) -> Limits:
        return self.covered.limits

    @property
    def features(self) -> Features:
        return self.covered.features | Features.SYMLINKS

    @property
    def incarnation(self) -> int:
        return self.covered.incarnation

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is, a link where it holds one; see `Share.stat`."""
        return await self._shown(path, await self.covered.stat(path))

    async def open(self, path: str, intent: OpenIntent) -> OpenFile:
        """Open a file; see `Share.open`. A link is not opened: ELOOP."""
        file = await self.covered.open(path, intent)
        if file.created or not _may_be_link(file.stat):
            return file
        try:
            if file.first is not None and len(file.first) >= SIZE:
                self._remember(path, file.stat, decode(file.first[:SIZE]))
            shown = await self._shown(path, file.stat)
        except BaseException:
            await file.aclose()
            raise
        if shown.kind is Kind.SYMLINK:
            await file.aclose()
            raise _no_file(path)
        return file

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        """Open several files; see `Share.open_ahead`. What may be a link is not: its content would have to be asked."""
        unwanted: list[OpenFile] = []

        def tell(index: int, result: OpenFile | SmbError) -> None:
            if not isinstance(result, SmbError) and _may_be_link(result.stat):
                unwanted.append(result)
                result = SmbError(f"{files[index][0]!r} may be a symlink")
            opened(index, result)

        try:
            await self.covered.open_ahead(files, tell)
        finally:
            for file in unwanted:
                await file.aclose()

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> OpenDirectory:
        """Begin to list a folder; see `Share.open_directory`."""
        return _Listing(self, path, await self.covered.open_directory(path, holder))

    async def read_link(self, path: str) -> str:
        """Return the target of a link; see `Share.read_link`.  Cost: 1 round trip; one more for the server's own."""
        stat = await self.covered.stat(path)
        target = await self._target(path, stat) if _may_be_link(stat) else None
        if target is None:
            return await self.covered.read_link(path)
        text = from_wtf8(target)
        if text is None:
            raise SmbError(f"the target of {path!r} is no text", errno=posix.EILSEQ)
        return text

    async def shown_entries(self, folder: str, entries: Sequence[DirEntry]) -> Sequence[DirEntry]:
        """Return entries of a listing with the links among them shown as such."""
        suspects = [number for number, entry in enumerate(entries) if _may_be_link(entry.stat)]
        if not suspects:
            return entries
        shown = list(entries)
        limit = trio.Semaphore(AT_ONCE)

        async def look(number: int) -> None:
            name, stat = entries[number]
            async with limit:
                shown[number] = DirEntry(name, await self._shown(f"{folder}/{name}" if folder else name, stat))

        async with trio.open_nursery() as nursery:
            for number in suspects:
                nursery.start_soon(look, number)
        return shown

    async def _shown(self, path: str, stat: FileStat) -> FileStat:
        """Return `stat`, as a link's if the file holds one; one that cannot be read is shown as the file it is."""
        if not _may_be_link(stat):
            return stat
        try:
            target = await self._target(path, stat)
        except SmbError as error:
            log.debug("cannot tell whether a file is a symlink path=%r reason=%s", path, error)
            return stat
        return stat if target is None else stat._replace(kind=Kind.SYMLINK, size=len(target))

    async def _target(self, path: str, stat: FileStat) -> bytes | None:
        known = self._targets.get(path)
        if known is not None and known[0] == _version(stat):
            self._targets.move_to_end(path)
            return known[1]
        file = await self.covered.open(path, OpenIntent(first_bytes=SIZE))
        try:
            content = file.first if file.first is not None else await file.read(0, SIZE)
        finally:
            await file.aclose()
        target = decode(content)
        self._remember(path, stat, target)
        return target

    def _remember(self, path: str, stat: FileStat, target: bytes | None) -> None:
        self._targets[path] = (_version(stat), target)
        self._targets.move_to_end(path)
        if len(self._targets) > REMEMBERED:
            self._targets.popitem(last=False)

    # -- the rest is the covered share's

    async def watch(self, path: str, *, recursive: bool = True) -> Watch:
        return await self.covered.watch(path, recursive=recursive)

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        return await self.covered.make_directory(path, mode)

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        return await self.covered.make_link(path, target, form)

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        return await self.covered.make_node(path, kind, device, mode, form)

    async def link(self, existing: str, path: str) -> None:
        await self.covered.link(existing, path)

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        await self.covered.remove(path, kind, holder)

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        await self.covered.rename(source, target, replace=replace, holder=holder)

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        return await self._shown(path, await self.covered.change(path, change, holder))

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        return await self.covered.extended_attributes(path)

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        await self.covered.set_extended_attribute(path, name, value)

    async def security_descriptor(self, path: str) -> bytes:
        return await self.covered.security_descriptor(path)

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        await self.covered.set_security_descriptor(path, descriptor)

    async def space(self) -> Space:
        return await self.covered.space()

    async def echo(self) -> None:
        await self.covered.echo()

    async def aclose(self) -> None:
        await self.covered.aclose()

    def statistics(self) -> ShareStatistics:
        return self.covered.statistics()


class _Listing:
    """A listing under way whose links are shown as such. Implements `OpenDirectory`."""

    def __init__(self, share: MfSymlinks, path: str, listing: OpenDirectory) -> None:
        self._share = share
        self._path = path
        self._listing = listing

    @property
    def stat(self) -> FileStat | None:
        return self._listing.stat

    @property
    def caching(self) -> Caching:
        return self._listing.caching

    async def acknowledge(self, remaining: Caching) -> None:
        await self._listing.acknowledge(remaining)

    async def page(self) -> Sequence[DirEntry]:
        """Return the next entries; see `OpenDirectory.page`."""
        return await self._share.shown_entries(self._path, await self._listing.page())

    async def aclose(self) -> None:
        await self._listing.aclose()


def _may_be_link(stat: FileStat) -> bool:
    return stat.size == SIZE and stat.kind is Kind.FILE


def _no_file(path: str) -> SmbError:
    return SmbError(f"{path!r} is a symlink", errno=posix.ELOOP)
