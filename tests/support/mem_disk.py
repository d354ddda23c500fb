"""The disk behind a share in memory: files, folders and names, changed as the server's own processes change them.

Nothing here waits, and no client is told: grants break only when a client comes (`mem_share.MemShare.other_client`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from smbfuse.share import Attributes, FileStat, Kind
from smbfuse.status import NtStatus, error
from tests.support.mem_grants import Grant
from tests.support.mem_watch import Stirring

EPOCH_NS: Final = 1_700_000_000_000_000_000
NO_DESCRIPTOR: Final = bytes([1, 0, 0, 0x80]) + bytes(16)  # self-relative, nobody's, no DACL.  [MS-DTYP] 2.4.6
SETTABLE: Final = Attributes.READONLY | Attributes.HIDDEN | Attributes.SYSTEM | Attributes.ARCHIVE


@dataclass(eq=False)
class MemNode:
    """A file, folder or symlink. Names that share it are hard links."""

    kind: Kind
    file_id: int
    volume_id: int
    created_ns: int
    written_ns: int
    changed_ns: int
    data: bytes | bytearray = b""
    target: str = ""
    attributes: int = 0
    allocation: int | None = None
    links: int = 1
    accessed_ns: int | None = None  # None: as `written_ns`
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    device: tuple[int, int] | None = None
    children: dict[str, "MemNode"] = field(default_factory=dict)
    extended: dict[str, bytes] = field(default_factory=dict)
    descriptor: bytes = NO_DESCRIPTOR
    override: dict[str, object] = field(default_factory=dict)  # fields of FileStat that the server says otherwise
    # What the server keeps of opens: every open handle, the grants, and whether the last close takes the name away.
    handles: list[object] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    delete_pending: bool = False

    def stat(self, *, listed: bool = False) -> FileStat:
        """Return what the server says of the file; a listing tells neither volume nor links."""
        directory = Attributes.DIRECTORY if self.kind is Kind.DIRECTORY else Attributes(0)
        stat = FileStat(
            kind=self.kind,
            size=len(self.data),
            allocation=len(self.data) if self.allocation is None else self.allocation,
            attributes=self.attributes | directory,
            created_ns=self.created_ns,
            accessed_ns=self.written_ns if self.accessed_ns is None else self.accessed_ns,
            written_ns=self.written_ns,
            changed_ns=self.changed_ns,
            file_id=self.file_id,
            volume_id=None if listed else self.volume_id,
            links=None if listed else self.links,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            device=self.device,
        )
        return stat._replace(**self.override)  # type: ignore[arg-type]  # a test names real fields

    def overwrite(self, offset: int, pieces: Iterator[bytes | bytearray | memoryview]) -> int:
        """Put bytes at `offset`, zeros before them where the file is shorter; return how many."""
        data = self.data if isinstance(self.data, bytearray) else bytearray(self.data)
        data.extend(bytes(max(0, offset - len(data))))
        at = offset
        for piece in pieces:
            data[at : at + len(piece)] = piece
            at += len(piece)
        self.data = data
        return at - offset

    def resize(self, size: int) -> None:
        """Cut the file, or fill it up with zeros."""
        self.data = bytearray(self.data[:size]) + bytes(max(0, size - len(self.data)))


class MemDisk:
    """A tree of nodes. Paths are the waist's: components joined by '/', '' for the root."""

    def __init__(self, *, case_sensitive: bool = False, keeps_modes: bool = False) -> None:
        self.case_sensitive = case_sensitive
        self.keeps_modes = keeps_modes
        self.keeps_creation = True  # else a new file's creation time is that of its first write
        self._next_id = {1: 100}
        self._now_ns = EPOCH_NS
        self.stirred = Stirring()
        self.root = self.make(Kind.DIRECTORY)

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
        node = self.make(Kind.FILE, data, file_id=file_id, volume_id=volume_id or self._volume(path))
        return self.place(path, node, override)

    def add_folder(
        self, path: str, *, file_id: int | None = None, volume_id: int | None = None, **override: object
    ) -> MemNode:
        """Make a folder; with a `volume_id` of its own it is where another disk is mounted."""
        node = self.make(Kind.DIRECTORY, file_id=file_id, volume_id=volume_id or self._volume(path))
        return self.place(path, node, override)

    def add_symlink(self, path: str, target: str) -> MemNode:
        """Make a symlink."""
        node = self.make(Kind.SYMLINK, volume_id=self._volume(path))
        node.target = target
        return self.place(path, node)

    def use_again(self, file_id: int, *, volume_id: int = 1) -> None:
        """Have the next new file take this id, as filesystems do with what was deleted just before."""
        self._next_id[volume_id] = file_id

    def link(self, path: str, new_path: str) -> None:
        """Give a file another name."""
        node = self.node(path)
        node.links += 1
        self.place(new_path, node)
        self.stirred.stir()

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's bytes."""
        node = self.node(path)
        node.data = data
        node.written_ns = node.changed_ns = self.tick()

    def remove(self, path: str) -> MemNode:
        """Take a name away, spelled as the server spells it."""
        folder, name = self.above(path)
        node = folder.children.pop(name)
        node.links -= 1
        folder.written_ns = folder.changed_ns = self.tick()
        return node

    def rename(self, path: str, new_path: str) -> None:
        """Move a name."""
        node = self.remove(path)
        node.links += 1
        self.place(new_path, node)

    def node(self, path: str) -> MemNode:
        """Return what a path leads to, found as the server finds it."""
        at = self.root
        for name in filter(None, path.split("/")):
            if at.kind is not Kind.DIRECTORY:
                raise error(NtStatus.NOT_A_DIRECTORY, "OPEN", path)
            found = at.children.get(self.spelled(at, name))
            if found is None:
                raise error(NtStatus.OBJECT_NAME_NOT_FOUND, "OPEN", path)
            at = found
        return at

    def above(self, path: str) -> tuple[MemNode, str]:
        """Return the folder that a path's last name is in, and that name as the folder spells it."""
        above, _, name = path.rpartition("/")
        folder = self.node(above)
        if folder.kind is not Kind.DIRECTORY:
            raise error(NtStatus.NOT_A_DIRECTORY, "OPEN", path)
        return folder, self.spelled(folder, name)

    def spelled(self, folder: MemNode, name: str) -> str:
        """Return the spelling that `folder` has of a name; the name itself if it has none."""
        if name in folder.children or self.case_sensitive:
            return name
        return next((other for other in folder.children if other.upper() == name.upper()), name)

    def drop(self, node: MemNode) -> None:
        """Take away every name of a node: what the last close does to a file whose deletion is pending."""
        self.stirred.stir()
        folders = [self.root]
        for folder in folders:
            for name, child in list(folder.children.items()):
                if child is node:
                    del folder.children[name]
                    child.links -= 1
                elif child.kind is Kind.DIRECTORY:
                    folders.append(child)

    def tick(self) -> int:
        """Return the time: later than ever before, by steps that differ in every unit."""
        self._now_ns += 1_000_100
        self.stirred.stir()
        return self._now_ns

    def make(self, kind: Kind, data: bytes = b"", *, file_id: int | None = None, volume_id: int = 1) -> MemNode:
        """Return a new node without a name."""
        if file_id is None:
            file_id = self._next_id.setdefault(volume_id, 100)
            self._next_id[volume_id] += 1
        created = self.tick()
        written = self.tick() if self.keeps_creation else created
        node = MemNode(kind, file_id, volume_id, created, written, written, data)
        if self.keeps_modes:
            node.mode = 0o755 if kind is Kind.DIRECTORY else 0o644
            node.uid = node.gid = 1000
        return node

    def place(self, path: str, node: MemNode, override: dict[str, object] | None = None) -> MemNode:
        """Give a node a name, and make the folders above it."""
        above, _, name = path.rpartition("/")
        at = self.root
        for part in filter(None, above.split("/")):
            if (spelled := self.spelled(at, part)) not in at.children:
                at.children[part] = self.make(Kind.DIRECTORY, volume_id=at.volume_id)
            at = at.children[spelled]
        node.override.update(override or {})
        at.children[name] = node
        return node

    def _volume(self, path: str) -> int:
        at = self.root
        for name in path.split("/")[:-1]:
            if name not in at.children:
                break
            at = at.children[name]
        return at.volume_id
