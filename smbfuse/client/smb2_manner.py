"""How a tree is spoken to: what paths look like, and which structures tell of files. Here as Windows has it.

`smb2_posix.PosixManner` is the other one. Whoever makes requests asks the tree's manner and need not know which it is.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.engine.smb2_exchange import Request
from smbfuse.share import Change, DirEntry, Features, FileStat
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import decode_page
from smbfuse.wire.fscc import FileAllInformation, FileAttributes, FileInformation
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.create import (
    QUERY_ON_DISK_ID,
    Access,
    CreateContext,
    CreateResponse,
    OnDiskId,
    find_context,
)

ALL_INFORMATION_SIZE: Final = 16 * 1024  # 100 bytes and a path; a cut path does no harm

_DOTS: Final = frozenset({".", ".."})


class Manner:
    """Paths with backslashes, attributes of DOS."""

    features: ClassVar[Features] = Features.NONE  # what a share has by being spoken to so
    entry_class: ClassVar[int] = FileInformation.ID_BOTH_DIRECTORY  # of a listing
    information_class: ClassVar[int] = FileInformation.ALL  # of one file
    information_size: ClassVar[int] = ALL_INFORMATION_SIZE

    def name(self, path: str) -> str:
        """Return a path of the waist as the server is to be told it."""
        return path.replace("/", "\\")

    def contexts(self, mode: int | None) -> tuple[CreateContext, ...]:
        """Return what every CREATE carries; `mode` is for what it makes."""
        return ()

    def opened(self, created: CreateResponse) -> FileStat:
        """Return what a CREATE has told of the file. Its QFid is the file's number as listings give it, its volume."""
        data = find_context(created.contexts, QUERY_ON_DISK_ID)
        on_disk = OnDiskId.decode(data) if data is not None else OnDiskId(0, 0)
        volume_id = on_disk.volume_id if data is not None else None
        return filestat.of_create(created, file_id=on_disk.disk_file_id, volume_id=volume_id)

    def stat(self, information: Buffer, created: CreateResponse) -> FileStat:
        """Return what `information_class` tells of the file that a CREATE has opened; raises DecodeError."""
        volume_id = self.opened(created).volume_id
        return filestat.of_all_information(FileAllInformation.decode(information), volume_id=volume_id)

    def is_vague(self, stat: FileStat) -> bool:
        """Tell whether only the file's reparse point can say what it is."""
        return bool(stat.attributes & FileAttributes.REPARSE_POINT)

    def entries(self, page: Buffer) -> list[DirEntry]:
        """Return the entries of a page of a listing, without '.' and '..'; raises DecodeError."""
        named = decode_page(FileInformation.ID_BOTH_DIRECTORY, page)
        return [filestat.of_entry(entry) for entry in named if entry.file_name not in _DOTS]

    def ownership(self, change: Change, path: str, *, file_id: bytes) -> tuple[Access, Sequence[Request]]:
        """Return how mode and owners are changed: the access that this needs, and requests; none if none is changed.

        Raises: Unsupported, where the server keeps none of them.
        """
        if change.mode is None and change.uid is None and change.gid is None:
            return Access(0), ()
        raise status.error(NtStatus.NOT_SUPPORTED, "chmod or chown", path)
