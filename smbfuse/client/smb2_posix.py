"""Shares with the POSIX extensions of SMB 3.1.1: the server's own modes, owners, links and names.

Which servers have them is agreed on at NEGOTIATE, but a share may be without (`smb3 unix extensions` is a setting of
Samba's shares), so the first question to each is put in their manner. On a POSIX open the server minds the case of
names, takes every character but '/', follows no symlink, lets open files be removed and replaced, and never asks
whether others share a file.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from smbfuse.client import filestat, smb2_requests
from smbfuse.client.filestat import DEVICES
from smbfuse.client.smb2_manner import Manner
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import DecodeError, StatusError
from smbfuse.share import Change, DirEntry, Features, FileStat, Kind
from smbfuse.wire.descriptor import (
    Descriptor,
    allowing,
    group_id,
    nfs_mode,
    unix_group,
    unix_user,
    user_id,
)
from smbfuse.wire.dtyp import filetime_to_ns
from smbfuse.wire.fscc import FileAttributes, known_file_id
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.create import Access, CreateContext, CreateOptions, CreateResponse, find_context
from smbfuse.wire.smb2.info import InfoType
from smbfuse.wire.smb2.posix import (
    POSIX_EXTENSIONS,
    POSIX_INFORMATION,
    FileFsPosixInformation,
    PosixAttributes,
    PosixInformation,
    PosixType,
    decode_posix_attributes,
    decode_posix_information,
    decode_posix_page,
    posix_open,
)

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

POSIX_INFORMATION_SIZE: Final = 1024  # 80 bytes and two SIDs of at most 68

_DOTS: Final = frozenset({".", ".."})
_DIRECTORY: Final = int(FileAttributes.DIRECTORY)

_KIND_BY_TYPE: Final = {
    int(PosixType.DIRECTORY): Kind.DIRECTORY,
    int(PosixType.SYMLINK): Kind.SYMLINK,
    int(PosixType.CHARACTER_DEVICE): Kind.CHARACTER_DEVICE,
    int(PosixType.BLOCK_DEVICE): Kind.BLOCK_DEVICE,
    int(PosixType.FIFO): Kind.FIFO,
    int(PosixType.SOCKET): Kind.SOCKET,
}
_OF_SYMLINKS: Final = 0o777  # the kernel asks nobody's permission to follow one, and shows it so


async def manner_of(tree: "Smb2Tree") -> Manner:
    """Return how a share is to be spoken to, of a server that has the POSIX extensions.

    Cost: 1 round trip.  Raises: ConnectionLost, Timeout.
    """
    manner = PosixManner()
    look = smb2_requests.create("", smb2_requests.LOOK, CreateOptions(0), contexts=manner.contexts(None))
    volume = smb2_requests.query_info(InfoType.FILESYSTEM, POSIX_INFORMATION, FileFsPosixInformation.SIZE)
    try:
        replies = await tree.compound("", look, volume, smb2_requests.close())
        created = CreateResponse.decode(replies[0].element)
        if find_context(created.contexts, POSIX_EXTENSIONS) is not None:
            return manner
    except (StatusError, DecodeError) as error:
        log.debug("a share without POSIX extensions: %s", error)
    return Manner()


class PosixManner(Manner):
    """Paths with slashes, every open a POSIX one."""

    features: ClassVar[Features] = Features.POSIX | Features.CASE_SENSITIVE
    entry_class: ClassVar[int] = POSIX_INFORMATION
    information_class: ClassVar[int] = POSIX_INFORMATION
    information_size: ClassVar[int] = POSIX_INFORMATION_SIZE

    def name(self, path: str) -> str:
        """Return a path as it is: a backslash is a character of a name."""
        return path

    def contexts(self, mode: int | None) -> tuple[CreateContext, ...]:
        """Return the context that makes the open a POSIX one; a file that is made without a `mode` is its owner's."""
        return (posix_open(0o700 if mode is None else mode),)

    def opened(self, created: CreateResponse) -> FileStat:
        """Return what a CREATE has told, mode and owners included."""
        stat = super().opened(created)
        data = find_context(created.contexts, POSIX_EXTENSIONS)
        if data is None:
            return stat
        posix = decode_posix_attributes(data)
        kind = _kind(posix, created.file_attributes)
        return stat._replace(
            kind=kind,
            links=posix.links,
            mode=_OF_SYMLINKS if kind is Kind.SYMLINK else posix.permissions,
            uid=user_id(posix.owner),
            gid=group_id(posix.group),
        )

    def stat(self, information: Buffer, created: CreateResponse) -> FileStat:
        """Return what FilePosixInformation tells; raises DecodeError."""
        found = _stat(decode_posix_information(information))
        return found._replace(volume_id=super().opened(created).volume_id)

    def is_vague(self, stat: FileStat) -> bool:
        """Tell whether the reparse point must be asked: for a device's number, and for the length of a target.

        Samba tells that of its own symlinks; those that clients have made as reparse points are empty files to it.
        """
        return super().is_vague(stat) and (stat.kind in (Kind.FILE, *DEVICES) or not stat.size)

    def entries(self, page: Buffer) -> list[DirEntry]:
        """Return the entries of a page of a listing, without '.' and '..'; raises DecodeError."""
        named = decode_posix_page(page)
        return [DirEntry(name, _stat(found)) for name, found in named if name not in _DOTS]

    def ownership(self, change: Change, path: str, *, file_id: bytes) -> tuple[Access, Sequence[Request]]:
        """Return how mode and owners are changed, the owners first: that takes set-user-id bits away.

        A mode travels as the one entry of an ACL; a server that finds owners beside it overlooks them.
        """
        access = Access(0)
        requests = []
        if change.uid is not None or change.gid is not None:
            owner = unix_user(change.uid) if change.uid is not None else None
            group = unix_group(change.gid) if change.gid is not None else None
            access |= Access.WRITE_OWNER
            requests.append(set_security(Descriptor(owner=owner, group=group), file_id=file_id))
        if change.mode is not None:
            access |= Access.WRITE_DAC
            requests.append(set_security(Descriptor(dacl=allowing([nfs_mode(change.mode)])), file_id=file_id))
        return access, requests


def set_security(descriptor: Descriptor, *, file_id: bytes) -> Request:
    """Return a SET_INFO of those parts of a security descriptor that are there."""
    return smb2_requests.set_info(
        0, descriptor.encode(), info_type=InfoType.SECURITY, additional=descriptor.parts, file_id=file_id
    )


def _kind(posix: PosixAttributes, attributes: int) -> Kind:
    if attributes & _DIRECTORY:
        return Kind.DIRECTORY
    # Not every server tells the type; what is a reparse point then still tells its kind by the tag.
    kind = _KIND_BY_TYPE.get(posix.type)
    return kind if kind is not None else filestat.kind_of(attributes, posix.reparse_tag)


def _stat(found: PosixInformation) -> FileStat:
    posix = found.posix
    kind = _kind(posix, found.file_attributes)
    return FileStat(
        kind,
        found.end_of_file,
        found.allocation_size,
        found.file_attributes,
        filetime_to_ns(found.creation_time),
        filetime_to_ns(found.last_access_time),
        filetime_to_ns(found.last_write_time),
        filetime_to_ns(found.change_time),
        known_file_id(found.inode),
        None,
        posix.links,
        _OF_SYMLINKS if kind is Kind.SYMLINK else posix.permissions,
        user_id(posix.owner),
        group_id(posix.group),
    )
