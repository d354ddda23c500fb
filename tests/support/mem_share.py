"""A share in memory: the waist's `Share` for tests of what stands above it.

The disk is changed from outside, untold (`share.disk.write`, `.remove`, `.add` …), or by another client, which breaks
grants as the rules are (`other = share.other_client()`, a share of its own over the same disk). The server's manners
are settings: case, volumes, page size, limits, and by `features`

    Features.POSIX          modes and owners are kept; an open file can be removed and renamed over, a folder replaced
    without it              as Windows: a removed file keeps its name until its last close; nothing open is replaced

`grants` is the most that an open is granted (nothing by default), `oplocks` makes it all or READ alone; `break_grant`
and `lose_connection` take it back. Every call is counted and logged, and can be delayed, held or made to fail: see
`mem_calls`. The two calls by handle that have a twin by path are called `change_open` and `acknowledge`.
"""

import errno
from collections.abc import Mapping, Sequence

import trio

from smbfuse.errors import SmbError, WrongKind
from smbfuse.share import (
    Attributes,
    Buffer,
    Caching,
    Change,
    Creation,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Limits,
    LinkForm,
    Opened,
    OpenIntent,
    ShareStatistics,
    Space,
)
from smbfuse.status import NtStatus, error
from tests.support.mem_calls import Calls
from tests.support.mem_disk import MemDisk, MemNode
from tests.support.mem_files import Handle, MemDirectory, MemFile, apply, is_protected, refuses_deletion
from tests.support.mem_grants import EVERYTHING, NOTHING, Grant, contend, join
from tests.support.mem_watch import MemWatch


class MemShare(Calls):
    """One client's connection to a share in memory."""

    def __init__(
        self,
        name: str = "Büro [1] 📁",
        *,
        case_sensitive: bool = False,
        features: Features = Features.NONE,
        page_entries: int = 1000,
        limits: Limits | None = None,
        folder_stat: bool = True,
        grants: Caching = NOTHING,
        oplocks: bool = False,
        disk: MemDisk | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.features = features | (Features.CASE_SENSITIVE if case_sensitive else Features.NONE)
        self.keeps_modes = Features.POSIX in features
        self.limits = limits or Limits(read=1 << 20, write=1 << 20, transact=1 << 20, in_flight=32)
        self.incarnation = 1
        self.page_entries = page_entries
        self.folder_stat = folder_stat  # does a listing tell of the folder itself?
        self.grants = grants
        self.oplocks = oplocks
        self.opens_forbid_deletion = False  # as SMB1's OPEN_ANDX, until `stand_aside`
        self.closes_move_times = False  # as Samba: the close of a handle that wrote sets the write time once more
        self.gives_ids = True
        self.reads: list[tuple[str, int, int]] = []  # path, offset, length
        self.writes: list[tuple[str, int, int]] = []
        self.opened: list[tuple[str, OpenIntent]] = []
        self.open_files = 0
        self.open_directories = 0
        self.watches: list[MemWatch] = []
        self.disk = disk or MemDisk(
            case_sensitive=Features.CASE_SENSITIVE in self.features, keeps_modes=self.keeps_modes
        )
        self.root = self.disk.root
        self.add, self.add_folder, self.add_symlink = self.disk.add, self.disk.add_folder, self.disk.add_symlink
        self.node, self.write = self.disk.node, self.disk.write
        self._handles: list[Handle] = []

    def other_client(self) -> "MemShare":
        """Return another client's connection to the same share, with counts and grants of its own."""
        return MemShare(
            self.name,
            features=self.features,
            limits=self.limits,
            grants=self.grants,
            oplocks=self.oplocks,
            disk=self.disk,
        )

    # -- the waist: files and folders

    async def stat(self, path: str) -> FileStat:
        await self.perform("stat", path)
        return self.told(self.node(path))

    async def open(self, path: str, intent: OpenIntent) -> MemFile:
        await self.perform("open", path)
        self.opened.append((path, intent))
        folder, name = self.disk.above(path)
        created = name not in folder.children and intent.creation is not Creation.NEVER
        if created:
            node = await self._make(path, Kind.FILE, intent.mode)
        else:
            node = self.node(path)
            await self._open_existing(path, node, intent)
        if intent.truncate and not created:
            apply(self.disk, node, Change(size=0), keeps_modes=self.keeps_modes)
        grant = None
        if intent.holder is not None:
            others = any(isinstance(one, Handle) and one.key != intent.holder.key for one in node.handles)
            wanted = intent.wanted & self.grants
            grant = join(node.grants, intent.holder, self, wanted, others=others, oplock=self.oplocks)
        file = MemFile(
            self,
            path,
            node,
            grant,
            first=memoryview(bytearray(node.data[: intent.first_bytes])) if intent.first_bytes else None,
            created=created,
            writable=intent.write,
            forbids_deletion=self.opens_forbid_deletion,
        )
        self._handles.append(file)
        self.open_files += 1
        return file

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        async def one(index: int, path: str, intent: OpenIntent) -> None:
            try:
                opened(index, await self.open(path, intent))
            except SmbError as refused:
                opened(index, refused)

        async with trio.open_nursery() as nursery:
            for index, (path, intent) in enumerate(files):
                nursery.start_soon(one, index, path, intent)

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> MemDirectory:
        await self.perform("open_directory", path)
        node = self.node(path)
        if node.kind is not Kind.DIRECTORY:
            raise error(NtStatus.NOT_A_DIRECTORY, "OPEN", path)
        grant = None
        if holder is not None:
            wanted = self.grants & ~Caching.WRITE if Features.DIRECTORY_LEASES in self.features else NOTHING
            grant = join(node.grants, holder, self, wanted, others=False, oplock=False)
        listing = MemDirectory(self, path, node, grant, tells=self.folder_stat)
        self._handles.append(listing)
        self.open_directories += 1
        return listing

    async def watch(self, path: str, *, recursive: bool = True) -> MemWatch:
        await self._perform_if(Features.NOTIFY, "watch", path)
        if self.node(path).kind is not Kind.DIRECTORY:
            raise error(NtStatus.NOT_A_DIRECTORY, "WATCH", path)
        watch = MemWatch(self, path, recursive=recursive)
        self.watches.append(watch)
        return watch

    async def read_link(self, path: str) -> str:
        await self.perform("read_link", path)
        node = self.node(path)
        if node.kind is not Kind.SYMLINK:
            raise error(NtStatus.NOT_A_REPARSE_POINT, "READ_LINK", path)
        return node.target

    # -- the waist: names

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        await self.perform("make_directory", path)
        return self.told(await self._make(path, Kind.DIRECTORY, mode))

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        await self._perform_if(Features.MAKES_SYMLINKS, "make_link", path)
        node = await self._make(path, Kind.SYMLINK, 0o777)
        node.target = target
        return self.told(node)

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        await self._perform_if(Features.SPECIAL_FILES, "make_node", path)
        node = await self._make(path, kind, mode)
        node.device = device
        return self.told(node)

    async def link(self, existing: str, path: str) -> None:
        await self._perform_if(Features.HARD_LINKS, "link", existing)
        node = self.node(existing)
        folder, name = self.disk.above(path)
        if name in folder.children:
            raise error(NtStatus.OBJECT_NAME_COLLISION, "LINK", path)
        await self._contend_folder(folder)
        folder.children[name] = node
        node.links += 1
        node.changed_ns = folder.written_ns = folder.changed_ns = self.disk.tick()

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        await self.perform("remove", path)
        node = self.node(path)
        if kind is Kind.DIRECTORY and node.kind is not Kind.DIRECTORY:
            raise error(NtStatus.NOT_A_DIRECTORY, "REMOVE", path)
        if kind is not Kind.DIRECTORY and node.kind is Kind.DIRECTORY:
            raise error(NtStatus.FILE_IS_A_DIRECTORY, "REMOVE", path)
        if node.children:
            raise error(NtStatus.DIRECTORY_NOT_EMPTY, "REMOVE", path)
        await self._take_handles(node, holder)
        if not self.keeps_modes:
            if is_protected(node):
                raise error(NtStatus.CANNOT_DELETE, "REMOVE", path)
            if refuses_deletion(node):
                raise error(NtStatus.SHARING_VIOLATION, "REMOVE", path)
            if node.delete_pending:
                raise error(NtStatus.DELETE_PENDING, "REMOVE", path)
        folder, name = self.disk.above(path)
        await self._contend_folder(folder)
        if node.handles and not self.keeps_modes:
            node.delete_pending = True
        else:
            self.disk.remove(path.removesuffix(path.rpartition("/")[2]) + name)
            node.changed_ns = self.disk.tick()

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        await self.perform("rename", source)
        node = self.node(source)
        folder, name = self.disk.above(source)
        new_folder, new_spelling = self.disk.above(target)
        if node.delete_pending:
            raise error(NtStatus.DELETE_PENDING, "RENAME", source)
        await self._take_handles(node, holder)
        victim = new_folder.children.get(new_spelling)
        if victim is node and (new_folder, new_spelling) != (folder, name):
            return  # two names of one file: POSIX leaves both
        if victim is not None and victim is not node:
            if not replace:
                raise error(NtStatus.OBJECT_NAME_COLLISION, "RENAME", target)
            await self._take_handles(victim, None)
            self._may_replace(node, victim, target)
        if not self.keeps_modes and (refuses_deletion(node) or _open_below(node)):
            raise error(NtStatus.ACCESS_DENIED if node.children else NtStatus.SHARING_VIOLATION, "RENAME", source)
        await self._contend_folder(folder)
        await self._contend_folder(new_folder)
        if victim is not None and victim is not node:
            del new_folder.children[new_spelling]
            victim.links -= 1
        del folder.children[name]
        new_folder.children[target.rpartition("/")[2]] = node
        node.changed_ns = self.disk.tick()
        folder.written_ns = new_folder.written_ns = self.disk.tick()

    # -- the waist: attributes

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        await self.perform("change", path)
        node = self.node(path)
        if change.size is not None:
            if node.kind is Kind.DIRECTORY:
                raise error(NtStatus.FILE_IS_A_DIRECTORY, "SET_INFO", path)
            if is_protected(node) and not self.keeps_modes:
                raise error(NtStatus.ACCESS_DENIED, "SET_INFO", path)
            key = None if holder is None else holder.key
            await contend(node.grants, EVERYTHING, key, waits_for=Caching.WRITE, oplock=self.oplocks)
        apply(self.disk, node, change, keeps_modes=self.keeps_modes)
        return self.told(node)

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        await self._perform_if(Features.EXTENDED_ATTRIBUTES, "extended_attributes", path)
        return dict(self.node(path).extended)

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        await self._perform_if(Features.EXTENDED_ATTRIBUTES, "set_extended_attribute", path)
        extended = self.node(path).extended
        spelled = next((other for other in extended if other.upper() == name.upper()), name)
        if len(value):
            extended[spelled] = bytes(value)
        else:
            extended.pop(spelled, None)
        self.disk.stirred.stir()

    async def security_descriptor(self, path: str) -> bytes:
        await self.perform("security_descriptor", path)
        return self.node(path).descriptor

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        await self.perform("set_security_descriptor", path)
        self.node(path).descriptor = bytes(descriptor)
        self.disk.stirred.stir()

    async def space(self) -> Space:
        await self.perform("space", "")
        return Space(total=1 << 40, free=1 << 39, available=1 << 38, block_size=4096)

    async def echo(self) -> None:
        await self.perform("echo", "")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def statistics(self) -> ShareStatistics:
        calls = sum(self.calls.values())
        return ShareStatistics("memory", "", "", "", "", calls, calls, 0, 0, self.in_flight, 0, 1)

    # -- what a server does of its own accord

    def break_grant(self, path: str, remaining: Caching = NOTHING) -> Grant:
        """Take this client's grant on a file back, down to `remaining`; return it: `answered` is set by the answer."""
        grant = next(grant for grant in self.node(path).grants if grant.client is self)
        grant.take(remaining)
        return grant

    def lose_connection(self) -> None:
        """End the connection and have a new one at once: every handle and every grant is void."""
        self.incarnation += 1
        handles, self._handles = self._handles, []
        grants = {id(handle.grant): handle.grant for handle in handles if handle.grant is not None and handle.open}
        for handle in handles:
            handle.forget()
        for grant in grants.values():
            grant.holder.lost()
        self.disk.stirred.stir()

    # -- what handles need

    def told(self, node: MemNode, *, listed: bool = False) -> FileStat:
        """Return what the server says of a file, ids left out if it gives none."""
        stat = node.stat(listed=listed)
        return stat if self.gives_ids else stat._replace(file_id=0, volume_id=None)

    def closed(self, operation: str) -> None:
        """Count a close."""
        self.calls[operation] += 1
        if operation == "close":
            self.open_files -= 1
        elif operation == "close_directory":
            self.open_directories -= 1

    # -- inside

    async def _perform_if(self, feature: Features, operation: str, path: str) -> None:
        await self.perform(operation, path)
        if feature not in self.features:
            raise error(NtStatus.NOT_SUPPORTED, operation.upper(), path)

    async def _open_existing(self, path: str, node: MemNode, intent: OpenIntent) -> None:
        if node.delete_pending:
            raise error(NtStatus.DELETE_PENDING, "OPEN", path)
        if intent.creation is Creation.EXCLUSIVE:
            raise error(NtStatus.OBJECT_NAME_COLLISION, "OPEN", path)
        if node.kind is Kind.DIRECTORY:
            raise error(NtStatus.FILE_IS_A_DIRECTORY, "OPEN", path)
        if node.kind is Kind.SYMLINK:
            raise WrongKind(f"{path!r} is a symlink", status=NtStatus.STOPPED_ON_SYMLINK, errno=errno.ELOOP)
        if (intent.write or intent.truncate) and is_protected(node) and not self.keeps_modes:
            raise error(NtStatus.ACCESS_DENIED, "OPEN", path)
        key = None if intent.holder is None else intent.holder.key
        taken = EVERYTHING if intent.truncate else Caching.WRITE
        await contend(node.grants, taken, key, waits_for=Caching.WRITE, oplock=self.oplocks)

    async def _make(self, path: str, kind: Kind, mode: int | None) -> MemNode:
        folder, name = self.disk.above(path)
        if name in folder.children:
            pending = folder.children[name].delete_pending
            raise error(NtStatus.DELETE_PENDING if pending else NtStatus.OBJECT_NAME_COLLISION, "CREATE", path)
        await self._contend_folder(folder)
        node = self.disk.make(kind, volume_id=folder.volume_id)
        if self.keeps_modes:
            node.mode = node.mode if mode is None else mode
        elif kind is Kind.FILE:
            node.attributes = Attributes.ARCHIVE
            if mode is not None and not mode & 0o222:
                node.attributes |= Attributes.READONLY
        folder.children[name] = node
        folder.written_ns = folder.changed_ns = self.disk.tick()
        return node

    def _may_replace(self, node: MemNode, victim: MemNode, target: str) -> None:
        if self.keeps_modes:
            if victim.kind is Kind.DIRECTORY and node.kind is not Kind.DIRECTORY:
                raise error(NtStatus.FILE_IS_A_DIRECTORY, "RENAME", target)
            if victim.kind is not Kind.DIRECTORY and node.kind is Kind.DIRECTORY:
                raise error(NtStatus.NOT_A_DIRECTORY, "RENAME", target)
            if victim.children:
                raise error(NtStatus.DIRECTORY_NOT_EMPTY, "RENAME", target)
        elif Kind.DIRECTORY in (victim.kind, node.kind) or victim.handles or is_protected(victim):
            raise error(NtStatus.ACCESS_DENIED, "RENAME", target)

    async def _take_handles(self, node: MemNode, holder: GrantHolder | None) -> None:
        """Make others write what they hold back, and give up the handles that they keep beyond their close."""
        taken, key = Caching.WRITE | Caching.HANDLE, None if holder is None else holder.key
        await contend(node.grants, taken, key, waits_for=taken, oplock=self.oplocks)

    async def _contend_folder(self, folder: MemNode) -> None:
        """Tell the others who keep a folder's names that they have changed; our own lease on it stays."""
        others = [grant for grant in folder.grants if grant.client is not self]
        await contend(others, EVERYTHING, None, waits_for=NOTHING, oplock=False)


def _open_below(node: MemNode) -> bool:
    """Tell whether a file or folder below `node` is open."""
    return any(child.handles or _open_below(child) for child in node.children.values())
