"""From what a server says of a file to `FileStat`; and where a link leads, in POSIX spelling."""

from typing import Final

from smbfuse.errors import SmbError, Unsupported, WrongKind
from smbfuse.share import DirEntry, FileStat, Kind
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import DirectoryEntry
from smbfuse.wire.dtyp import filetime_to_ns
from smbfuse.wire.fscc import FileAllInformation, FileAttributes, known_file_id
from smbfuse.wire.reparse import (
    MountPointReparse,
    NfsReparse,
    NfsType,
    ReparsePoint,
    ReparseTag,
    SymlinkReparse,
    WslSymlinkReparse,
)
from smbfuse.wire.smb2.create import CreateResponse

_DIRECTORY: Final = int(FileAttributes.DIRECTORY)
_REPARSE_POINT: Final = int(FileAttributes.REPARSE_POINT)

# Mount points are absent: a server follows them itself, so they are shown as the folders they stand for.
# An NFS tag alone does not tell its type; nearly all of them are symlinks, and `stat` looks inside.
_KIND_BY_TAG: Final = {
    int(ReparseTag.SYMLINK): Kind.SYMLINK,
    int(ReparseTag.LX_SYMLINK): Kind.SYMLINK,
    int(ReparseTag.NFS): Kind.SYMLINK,
    int(ReparseTag.AF_UNIX): Kind.SOCKET,
    int(ReparseTag.LX_FIFO): Kind.FIFO,
    int(ReparseTag.LX_CHR): Kind.CHARACTER_DEVICE,
    int(ReparseTag.LX_BLK): Kind.BLOCK_DEVICE,
}
_KIND_BY_NFS_TYPE: Final = {
    int(NfsType.SYMLINK): Kind.SYMLINK,
    int(NfsType.FIFO): Kind.FIFO,
    int(NfsType.SOCKET): Kind.SOCKET,
    int(NfsType.CHARACTER): Kind.CHARACTER_DEVICE,
    int(NfsType.BLOCK): Kind.BLOCK_DEVICE,
}

DEVICES: Final = frozenset({Kind.BLOCK_DEVICE, Kind.CHARACTER_DEVICE})

NT_PREFIX: Final = "\\??\\"
DRIVES_AT: Final = "/mnt"  # where a link to C:\ leads, as the kernel client has it by default


def kind_of(attributes: int, reparse_tag: int = 0) -> Kind:
    """Return what a file with these attributes is; `reparse_tag` is 0 where there is none or it is not known."""
    if attributes & _REPARSE_POINT and reparse_tag in _KIND_BY_TAG:
        return _KIND_BY_TAG[reparse_tag]
    return Kind.DIRECTORY if attributes & _DIRECTORY else Kind.FILE


def kind_of_point(point: ReparsePoint, attributes: int) -> Kind:
    """Return what a reparse point is, its data considered."""
    if isinstance(point, NfsReparse):
        return _KIND_BY_NFS_TYPE.get(point.inode_type, Kind.FILE)
    return kind_of(attributes, point.tag)


def of_entry(entry: DirectoryEntry) -> DirEntry:
    """Return one entry of a listing. Hot: positional arguments cost half of what names cost."""
    (name, created, accessed, written, changed, size, allocation, attributes, ea_size, file_id) = entry
    stat = FileStat(
        kind_of(attributes, ea_size),
        size,
        allocation,
        attributes,
        filetime_to_ns(created),
        filetime_to_ns(accessed),
        filetime_to_ns(written),
        filetime_to_ns(changed),
        known_file_id(file_id),
    )
    return DirEntry(name, stat)


def of_all_information(information: FileAllInformation, *, volume_id: int | None) -> FileStat:
    """Return the attributes of one file; the kind of a reparse point is still to be looked up."""
    basic, standard = information.basic, information.standard
    return FileStat(
        kind=kind_of(basic.file_attributes),
        size=standard.end_of_file,
        allocation=standard.allocation_size,
        attributes=basic.file_attributes,
        created_ns=filetime_to_ns(basic.creation_time),
        accessed_ns=filetime_to_ns(basic.last_access_time),
        written_ns=filetime_to_ns(basic.last_write_time),
        changed_ns=filetime_to_ns(basic.change_time),
        file_id=known_file_id(information.internal.index_number),
        volume_id=volume_id,
        links=standard.number_of_links,
    )


def of_create(created: CreateResponse, *, file_id: int, volume_id: int | None) -> FileStat:
    """Return what the response of an SMB2 CREATE tells of the file; links are not among it."""
    return FileStat(  # by position, as in `of_entry`
        kind_of(created.file_attributes),
        created.end_of_file,
        created.allocation_size,
        created.file_attributes,
        filetime_to_ns(created.creation_time),
        filetime_to_ns(created.last_access_time),
        filetime_to_ns(created.last_write_time),
        filetime_to_ns(created.change_time),
        known_file_id(file_id),
        volume_id,
    )


def link_target(point: ReparsePoint, path: str, *, posix: bool = False) -> str:
    """Return where a link leads, components joined by '/'.

    An absolute Windows path becomes /mnt/c/…, a UNC path //server/share/…. `posix`: the server's paths are POSIX' own,
    where a backslash is a character of a name.
    Raises: WrongKind (EINVAL: no link), Unsupported (a kind of reparse point that nobody here reads).
    """
    if isinstance(point, MountPointReparse) or _KIND_BY_TAG.get(point.tag, Kind.SYMLINK) is not Kind.SYMLINK:
        raise no_link(path)
    if isinstance(point, NfsReparse) and point.inode_type != NfsType.SYMLINK:
        raise no_link(path)
    if isinstance(point, WslSymlinkReparse | NfsReparse):
        target = point.target
    elif isinstance(point, SymlinkReparse):
        target = point.substitute_name
        if not posix or target.startswith(NT_PREFIX):
            target = target.replace("\\", "/") if point.relative else _posix(target)
    else:
        raise Unsupported(
            f"{path!r} is a reparse point of the unknown kind 0x{point.tag:08X}",
            status=NtStatus.IO_REPARSE_TAG_NOT_HANDLED,
        )
    return target.partition("\0")[0]


def no_link(path: str) -> SmbError:
    """Return the exception for reading a link that is none: EINVAL, as readlink(2) says."""
    row = NtStatus.NOT_A_REPARSE_POINT
    return WrongKind(f"{path!r} is not a symlink", status=row, errno=row.errno)


def _posix(nt_path: str) -> str:
    path = nt_path.removeprefix(NT_PREFIX)
    if path.upper().startswith("UNC\\") and path != nt_path:
        return "//" + path[4:].replace("\\", "/")
    if path[1:2] == ":":
        return f"{DRIVES_AT}/{path[0].lower()}{path[2:]}".replace("\\", "/")
    return path.replace("\\", "/")
