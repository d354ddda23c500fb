"""A share in memory: the waist's `Share` and `ShareSource` for tests of what stands above it.

The tree is changed from outside as another client would change it (`write`, `remove`, `add`); the server's manners are
settings (case, volumes, page size, limits). Every call is counted and logged, and can be delayed, held or made to fail:

    share.delays["read"] = 0.1              # seconds, each time
    share.fail("stat", Timeout("…"))        # the next call; `times=` and `path=` narrow it
    with share.held("read"):                # until the block is left
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import trio

from smbfuse.errors import NotFound, SmbError, StaleHandle, WrongKind
from smbfuse.share import (
    Attributes,
    Caching,
    DirEntry,
    Features,
    FileStat,
    Kind,
    Limits,
    OpenIntent,
    ShareStatistics,
    Space,
)

NOT_FOUND = 0xC0000034
WRONG_KIND = 0xC0000103
FILE_CLOSED = 0xC0000128
EPOCH_NS = 1_700_000_000_000_000_000


@dataclass(eq=False)
class MemNode:
    """A file, folder or symlink. Names that share it are hard links."""

    kind: Kind
    file_id: int
    volume_id: int
    created_ns: int
    written_ns: int
    changed_ns: int
    data: bytes = b""
    target: str = ""
    attributes: int = 0
    allocation: int | None = None
    links: int = 1
    children: dict[str, "MemNode"] = field(default_factory=dict)
    override: dict[str, object] = field(default_factory=dict)  # fields of FileStat that the server says otherwise

    def stat(self, *, listed: bool = False) -> FileStat:
        """Return what the server says of the file; a listing tells neither volume nor links."""
        directory = Attributes.DIRECTORY if self.kind is Kind.DIRECTORY else Attributes(0)
        stat = FileStat(
            kind=self.kind,
            size=len(self.data),
            allocation=len(self.data) if self.allocation is None else self.allocation,
            attributes=self.attributes | directory,
            created_ns=self.created_ns,
            accessed_ns=self.written_ns,
            written_ns=self.written_ns,
            changed_ns=self.changed_ns,
            file_id=self.file_id,
            volume_id=None if listed else self.volume_id,
            links=None if listed else self.links,
        )
        return stat._replace(**self.override)  # type: ignore[arg-type]  # a test names real fields


@dataclass
class _Failure:
    operation: str
    error: SmbError
    path: str | None
    times: int


class MemShare:
    """One share in memory."""

    def __init__(
        self,
        name: str = "Büro [1] 📁",
        *,
        case_sensitive: bool = False,
        features: Features = Features.NONE,
        page_entries: int = 1000,
        limits: Limits | None = None,
        folder_stat: bool = True,
    ) -> None:
        self.name = name
        self.features = features | (Features.CASE_SENSITIVE if case_sensitive else Features.NONE)
        self.limits = limits or Limits(read=1 << 20, write=1 << 20, transact=1 << 20, in_flight=32)
        self.incarnation = 1
        self.page_entries = page_entries
        self.folder_stat = folder_stat  # does a listing tell of the folder itself?
        self.gives_ids = True
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self.reads: list[tuple[str, int, int]] = []  # path, offset, length
        self.delays: dict[str, float] = {}
        self.open_files = 0
        self.open_directories = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._failures: list[_Failure] = []
        self._gates: dict[str, trio.Event] = {}
        self._next_id = {1: 100}
        self._now_ns = EPOCH_NS
        self.root = self._make(Kind.DIRECTORY, volume_id=1)

    # -- the tree, changed from outside

    def add(
        self,
        path: str,
        data: bytes = b"",
        *,
        file_id: int | None = None,
        volume_id: int | None = None,
        **override: object,
    ) -> MemNode:
        """Make a file, and the folders above it. `override` names fields of FileStat."""
        return self._place(path, self._make(Kind.FILE, data, file_id, volume_id or self._volume(path)), override)

    def add_folder(
        self, path: str, *, file_id: int | None = None, volume_id: int | None = None, **override: object
    ) -> MemNode:
        """Make a folder; with a `volume_id` of its own it is where another disk is mounted."""
        return self._place(path, self._make(Kind.DIRECTORY, b"", file_id, volume_id or self._volume(path)), override)

    def add_symlink(self, path: str, target: str) -> MemNode:
        """Make a symlink."""
        node = self._make(Kind.SYMLINK, volume_id=self._volume(path))
        node.target = target
        return self._place(path, node, {})

    def link(self, path: str, new_path: str) -> None:
        """Give a file another name."""
        node = self.node(path)
        node.links += 1
        self._place(new_path, node, {})

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's bytes."""
        node = self.node(path)
        node.data = data
        node.written_ns = node.changed_ns = self._tick()

    def remove(self, path: str) -> MemNode:
        """Take a name away."""
        folder, name = self._above(path)
        node = folder.children.pop(name)
        node.links -= 1
        return node

    def rename(self, path: str, new_path: str) -> None:
        """Move a name."""
        node = self.remove(path)
        node.links += 1
        self._place(new_path, node, {})

    def node(self, path: str) -> MemNode:
        """Return what a path leads to, found as the server finds it."""
        at = self.root
        for name in filter(None, path.split("/")):
            if at.kind is not Kind.DIRECTORY:
                raise WrongKind(f"{path!r}: not a directory", status=WRONG_KIND)
            found = at.children.get(name)
            if found is None and Features.CASE_SENSITIVE not in self.features:
                found = next((node for other, node in at.children.items() if other.upper() == name.upper()), None)
            if found is None:
                raise NotFound(f"{path!r}: no such name", status=NOT_FOUND)
            at = found
        return at

    # -- manners

    def fail(self, operation: str, error: SmbError, *, path: str | None = None, times: int = 1) -> None:
        """Let the next calls of an operation fail."""
        self._failures.append(_Failure(operation, error, path, times))

    @contextlib.contextmanager
    def held(self, operation: str) -> Iterator[None]:
        """Hold back every answer to an operation until the block is left."""
        gate = self._gates[operation] = trio.Event()
        try:
            yield
        finally:
            del self._gates[operation]
            gate.set()

    async def perform(self, operation: str, path: str) -> None:
        """Count a call, then let it wait or fail as scripted."""
        self.calls[operation] += 1
        self.log.append((operation, path))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.lowlevel.checkpoint()
            if operation in self.delays:
                await trio.sleep(self.delays[operation])
            if operation in self._gates:
                await self._gates[operation].wait()
        finally:
            self.in_flight -= 1
        for failure in self._failures:
            if failure.operation == operation and failure.path in (None, path):
                failure.times -= 1
                if not failure.times:
                    self._failures.remove(failure)
                raise failure.error

    # -- the waist

    async def stat(self, path: str) -> FileStat:
        await self.perform("stat", path)
        return self._told(self.node(path))

    async def open(self, path: str, intent: OpenIntent) -> "MemFile":
        await self.perform("open", path)
        node = self.node(path)
        if node.kind is Kind.DIRECTORY:
            raise WrongKind(f"{path!r}: is a directory", status=0xC00000BA, errno=21)
        first = None
        if intent.first_bytes:
            first = memoryview(bytearray(node.data[: intent.first_bytes]))
        return MemFile(self, path, node, first)

    async def open_directory(self, path: str) -> "MemDirectory":
        await self.perform("open_directory", path)
        node = self.node(path)
        if node.kind is not Kind.DIRECTORY:
            raise WrongKind(f"{path!r}: not a directory", status=WRONG_KIND)
        return MemDirectory(self, path, node)

    async def read_link(self, path: str) -> str:
        await self.perform("read_link", path)
        return self.node(path).target

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

    # -- inside

    def told(self, node: MemNode, *, listed: bool = False) -> FileStat:
        """Return what the server says of a file, ids left out if it gives none."""
        return self._told(node, listed=listed)

    def _told(self, node: MemNode, *, listed: bool = False) -> FileStat:
        stat = node.stat(listed=listed)
        return stat if self.gives_ids else stat._replace(file_id=0, volume_id=None)

    def _tick(self) -> int:
        self._now_ns += 1_000_100
        return self._now_ns

    def _make(self, kind: Kind, data: bytes = b"", file_id: int | None = None, volume_id: int = 1) -> MemNode:
        if file_id is None:
            file_id = self._next_id.setdefault(volume_id, 100)
            self._next_id[volume_id] += 1
        created, written = self._tick(), self._tick()
        return MemNode(kind, file_id, volume_id, created, written, written, data)

    def _volume(self, path: str) -> int:
        at = self.root
        for name in path.split("/")[:-1]:
            if name not in at.children:
                break
            at = at.children[name]
        return at.volume_id

    def _above(self, path: str) -> tuple[MemNode, str]:
        above, _, name = path.rpartition("/")
        return self.node(above), name

    def _place(self, path: str, node: MemNode, override: dict[str, object]) -> MemNode:
        above, _, name = path.rpartition("/")
        at = self.root
        for part in filter(None, above.split("/")):
            at = at.children.setdefault(part, self._make(Kind.DIRECTORY, volume_id=at.volume_id))
        node.override.update(override)
        at.children[name] = node
        return node


class MemFile:
    """An open file: it keeps its node whatever happens to the name."""

    caching = Caching.NONE

    def __init__(self, share: MemShare, path: str, node: MemNode, first: memoryview | None) -> None:
        self.share = share
        self.path = path
        self.node = node
        self.stat = share.told(node)
        self.first = first
        self.incarnation = share.incarnation
        share.open_files += 1

    async def read(self, offset: int, length: int) -> memoryview:
        assert 0 < length <= self.share.limits.read
        self.share.reads.append((self.path, offset, length))
        await self.share.perform("read", self.path)
        if self.incarnation != self.share.incarnation:
            raise StaleHandle(f"{self.path!r}: handle of an older connection", status=FILE_CLOSED)
        return memoryview(bytearray(self.node.data[offset : offset + length]))

    async def aclose(self) -> None:
        self.share.calls["close"] += 1
        self.share.open_files -= 1


class MemDirectory:
    """A listing under way. The first page comes with the open; each further one is a call."""

    def __init__(self, share: MemShare, path: str, node: MemNode) -> None:
        self.share = share
        self.path = path
        self.stat = share.told(node) if share.folder_stat else None
        self.entries = [DirEntry(name, share.told(child, listed=True)) for name, child in node.children.items()]
        self.at = 0
        share.open_directories += 1

    async def page(self) -> Sequence[DirEntry]:
        if self.at:
            await self.share.perform("page", self.path)
        page = self.entries[self.at : self.at + self.share.page_entries]
        self.at += len(page)
        return page

    async def aclose(self) -> None:
        self.share.calls["close_directory"] += 1
        self.share.open_directories -= 1


class MemSource:
    """A server in memory: one share, or several by name."""

    def __init__(self, *shares: MemShare, whole_server: bool = False) -> None:
        self.whole_server = whole_server
        self.shares = {share.name: share for share in shares}
        self.calls: Counter[str] = Counter()
        self._connected: list[MemShare] = []

    async def share(self, name: str) -> MemShare:
        await trio.lowlevel.checkpoint()
        for share in self.shares.values():
            if not self.whole_server or share.name.casefold() == name.casefold():
                if share not in self._connected:
                    self.calls["connect"] += 1
                    self._connected.append(share)
                return share
        raise NotFound(f"no share {name!r}", status=0xC00000CC)

    def connected(self) -> list[MemShare]:
        return list(self._connected)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
