"""Extended attributes and security descriptors of a file over SMB2: one compound each.  [MS-SMB2] 2.2.37, 2.2.39."""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.smb2_tree import information, succeeded
from smbfuse.errors import DecodeError, SmbError, StatusError
from smbfuse.share import Buffer
from smbfuse.status import NtStatus
from smbfuse.wire.descriptor import Descriptor, SecurityInformation
from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.fscc_ea import ExtendedAttribute, decode_attributes, encode_attributes
from smbfuse.wire.smb2.create import Access, CreateOptions
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import InfoType

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

MOST_INFORMATION: Final = 64 * 1024  # bytes: a file's EAs on NTFS, and the largest security descriptor, are no more

_SECURITY: Final = SecurityInformation.OWNER | SecurityInformation.GROUP | SecurityInformation.DACL

# What servers say to a buffer that is too small for the EAs of one file. Samba's may have 64 KiB each.
_TOO_SMALL: Final = frozenset(
    {
        NtStatus.BUFFER_OVERFLOW,
        NtStatus.BUFFER_TOO_SMALL,
        NtStatus.INFO_LENGTH_MISMATCH,
        NtStatus.INSUFFICIENT_RESOURCES,
    }
)


async def extended_attributes(tree: "Smb2Tree", path: str) -> Mapping[str, bytes]:
    """Return the EAs of a file; see `Share.extended_attributes`.

    Cost: 1 round trip: CREATE, QUERY_INFO, CLOSE. One more for a file with more than 64 KiB of them.
    """
    try:
        chain = await _query_attributes(tree, path, MOST_INFORMATION)
    except StatusError as error:
        if error.status not in _TOO_SMALL:
            raise
        chain = await _query_attributes(tree, path, tree.page_size())
    return {attribute.name: attribute.value for attribute in decode_attributes(chain)}


async def _query_attributes(tree: "Smb2Tree", path: str, size: int) -> bytes:
    query = smb2_requests.query_info(InfoType.FILE, FileInformation.FULL_EA, size)
    create = tree.create(path, Access.FILE_READ_EA, CreateOptions.OPEN_REPARSE_POINT)
    replies = await tree.compound(path, create, query, smb2_requests.close())
    if replies[1].status == NtStatus.NO_EAS_ON_FILE:
        return b""
    if replies[1].status == NtStatus.BUFFER_OVERFLOW:  # what was cut off is no chain
        raise status.error(replies[1].status, Command.QUERY_INFO.name, path)
    return information(replies[1], path)


async def set_extended_attribute(tree: "Smb2Tree", path: str, name: str, value: Buffer) -> None:
    """Set one EA, or remove it; see `Share.set_extended_attribute`.

    Cost: 1 round trip: CREATE, SET_INFO, CLOSE.  Raises: what the server says, and EINVAL for what can be no name.
    """
    try:
        chain = encode_attributes([ExtendedAttribute(name, bytes(value))])
    except ValueError as error:
        raise status.error(NtStatus.INVALID_EA_NAME, str(error), path) from None
    create = tree.create(path, Access.FILE_WRITE_EA, CreateOptions.OPEN_REPARSE_POINT)
    change = smb2_requests.set_info(FileInformation.FULL_EA, chain)
    replies = await tree.compound(path, create, change, smb2_requests.close())
    succeeded(replies[1], Command.SET_INFO, path)


async def security_descriptor(tree: "Smb2Tree", path: str) -> bytes:
    """Return a file's owner, group and DACL; see `Share.security_descriptor`.

    Cost: 1 round trip: CREATE, QUERY_INFO, CLOSE.
    """
    query = smb2_requests.query_info(InfoType.SECURITY, 0, MOST_INFORMATION, additional=_SECURITY)
    create = tree.create(path, Access.READ_CONTROL, CreateOptions.OPEN_REPARSE_POINT)
    replies = await tree.compound(path, create, query, smb2_requests.close())
    return information(succeeded(replies[1], Command.QUERY_INFO, path), path)


async def set_security_descriptor(tree: "Smb2Tree", path: str, descriptor: Buffer) -> None:
    """Set the parts of a security descriptor that are there; see `Share.set_security_descriptor`.

    Cost: 1 round trip: CREATE, SET_INFO, CLOSE.
    Raises: EINVAL for what is no security descriptor, Denied (owners are given away by few).
    """
    try:
        parts = Descriptor.decode(descriptor).parts
    except DecodeError as error:
        raise SmbError(f"{path!r}: {error}", errno=errno.EINVAL) from None
    if not parts:
        raise SmbError(f"{path!r}: a security descriptor without owner, group and DACL", errno=errno.EINVAL)
    access = Access.WRITE_DAC if parts & SecurityInformation.DACL else Access(0)
    if parts & (SecurityInformation.OWNER | SecurityInformation.GROUP):
        access |= Access.WRITE_OWNER
    create = tree.create(path, access, CreateOptions.OPEN_REPARSE_POINT)
    change = smb2_requests.set_info(0, bytes(descriptor), info_type=InfoType.SECURITY, additional=parts)
    replies = await tree.compound(path, create, change, smb2_requests.close())
    succeeded(replies[1], Command.SET_INFO, path)
