"""One known file: its number, its place in the tree, and what is known of it as one packed record."""

from smbfuse.share import FileStat, Share, creation_differs
from smbfuse.vfs.attrs import Asked, Known, asked_of, name_of, unpack
from smbfuse.vfs.names import Names


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

    def known(self) -> Known:
        """Return everything that is known, decoded."""
        return unpack(self.record)

    def stat(self) -> FileStat:
        """Return the attributes last told by the server."""
        return unpack(self.record).stat


class Folder(Node):
    """A folder and the nodes known in it."""

    __slots__ = ("aliases", "children")

    def __init__(self, ino: int, parent: "Folder | None", key: str, record: bytes) -> None:
        super().__init__(ino, parent, key, record)
        self.children: dict[str, Node] = {}  # by key
        self.aliases: dict[bytes, str] | None = None  # names shown otherwise than they would be asked for


class ShareRoot(Folder):
    """The root of one share: what lies below speaks of this share's files, ids and spellings."""

    __slots__ = ("names", "share", "trusts_ids")

    def __init__(
        self, ino: int, parent: Folder | None, key: str, record: bytes, *, share: Share, names: Names, trusts_ids: bool
    ) -> None:
        super().__init__(ino, parent, key, record)
        self.share = share
        self.names = names
        self.trusts_ids = trusts_ids

    def same_file(self, before: FileStat, after: FileStat) -> bool:
        """Tell whether two answers about one path are about one file, as far as they say."""
        if before.kind is not after.kind or creation_differs(before, after):
            return False
        if not self.trusts_ids:
            return True
        return not differ(before.file_id or None, after.file_id or None) and not differ(
            before.volume_id, after.volume_id
        )


def differ(before: int | None, after: int | None) -> bool:
    """Tell whether two values are both known and not the same."""
    return before is not None and after is not None and before != after
