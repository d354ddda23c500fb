"""Extended attributes and security descriptors of an SMB1 share.  [MS-CIFS] 2.2.1.2.2, 2.2.7.3, 2.2.7.6."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_open import opened
from smbfuse.errors import DecodeError, Denied, SmbError
from smbfuse.share import Buffer
from smbfuse.status import NtStatus
from smbfuse.wire.descriptor import Descriptor, SecurityInformation
from smbfuse.wire.fscc_ea import ExtendedAttribute
from smbfuse.wire.smb1.changes import SetLevel
from smbfuse.wire.smb1.eas import INFO_QUERY_ALL_EAS, decode_list, encode_list
from smbfuse.wire.smb1.files import NtAccess
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.nt_transact import NtFunction, QuerySecurityResponse, SecurityRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

LARGEST_LIST: Final = 0xFFFF  # of a TRANSACTION2, whose counts have 16 bits
LARGEST_DESCRIPTOR: Final = 0x10000
_OWNERSHIP: Final = SecurityInformation.OWNER | SecurityInformation.GROUP
_EVERYTHING: Final = _OWNERSHIP | SecurityInformation.DACL


async def extended_attributes(tree: Smb1Tree, path: str) -> dict[str, bytes]:
    """Return all extended attributes; see `Share.extended_attributes`.  Cost: 1 round trip."""
    reply = await tree.perform_one(tree.query_path(INFO_QUERY_ALL_EAS, path, max_data=LARGEST_LIST))
    if reply.status == NtStatus.NO_EAS_ON_FILE:
        return {}
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "QUERY_ALL_EAS", path)
    return {attribute.name: attribute.value for attribute in decode_list(reply.data)}


async def set_extended_attribute(tree: Smb1Tree, path: str, name: str, value: Buffer) -> None:
    """Set one extended attribute; see `Share.set_extended_attribute`.

    Cost: 2 round trips, by handle; nobody waits for the CLOSE. 1 on a server without NT commands, by path: of Samba
    4.17, that would end the connection if the file is not there.
    Raises besides: NoSpace for more than a TRANSACTION2 can carry, EINVAL for what can be no name.
    """
    try:
        data = encode_list([ExtendedAttribute(name, bytes(value))])
    except ValueError as error:
        raise status.error(NtStatus.INVALID_EA_NAME, str(error), path) from None
    if len(data) > LARGEST_LIST:
        raise status.error(NtStatus.EA_TOO_LARGE, "SET_EAS", path)
    if not tree.has(Capabilities.NT_SMBS):
        await tree.succeed(tree.set_path(SetLevel.INFO_SET_EAS, path, data), path, "SET_EAS")
        return
    async with opened(tree, path, NtAccess.WRITE_EA) as fid:
        await tree.succeed(tree.set_file(SetLevel.INFO_SET_EAS, fid, data), path, "SET_EAS")


async def security_descriptor(tree: Smb1Tree, path: str) -> bytes:
    """Return owner, group and DACL; see `Share.security_descriptor`.

    Cost: 2 round trips; nobody waits for the CLOSE. One more for a descriptor above 64 KiB.
    """
    async with opened(tree, path, NtAccess.READ_CONTROL) as fid:
        room = LARGEST_DESCRIPTOR
        while True:
            exchange = tree.nt_transact(
                NtFunction.QUERY_SECURITY_DESC,
                SecurityRequest(fid, _EVERYTHING).encode(),
                max_parameters=QuerySecurityResponse.SIZE,
                max_data=room,
            )
            reply = await tree.perform_one(exchange)
            if reply.status != NtStatus.BUFFER_TOO_SMALL or room != LARGEST_DESCRIPTOR:
                break
            room = min(QuerySecurityResponse.decode(reply.parameters).length_needed, 16 * LARGEST_DESCRIPTOR)
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "QUERY_SECURITY_DESC", path)
    return bytes(reply.data)


async def set_security_descriptor(tree: Smb1Tree, path: str, descriptor: Buffer) -> None:
    """Set what the descriptor has; see `Share.set_security_descriptor`.

    Cost: 2 round trips; nobody waits for the CLOSE. 5 if only the owners that the descriptor names may not be set, and
    the file has them already: Samba lets nobody set owners of a file that its owner cannot read, write and execute.
    Raises: EINVAL for what is no security descriptor; NotFound, Denied, Unsupported.
    """
    try:
        wanted = Descriptor.decode(descriptor)
    except DecodeError as error:
        raise SmbError(f"{path!r}: {error}", errno=errno.EINVAL) from None
    parts = wanted.parts
    try:
        await _set_parts(tree, path, parts, descriptor)
    except Denied:
        if not parts & _OWNERSHIP or not parts & SecurityInformation.DACL:
            raise
        now = Descriptor.decode(await security_descriptor(tree, path))
        if wanted.owner not in (None, now.owner) or wanted.group not in (None, now.group):
            raise
        await _set_parts(tree, path, SecurityInformation.DACL, descriptor)


async def _set_parts(tree: Smb1Tree, path: str, parts: int, descriptor: Buffer) -> None:
    access = NtAccess.WRITE_DAC if parts & SecurityInformation.DACL else NtAccess.READ_CONTROL
    if parts & _OWNERSHIP:
        access |= NtAccess.WRITE_OWNER
    async with opened(tree, path, access) as fid:
        exchange = tree.nt_transact(
            NtFunction.SET_SECURITY_DESC, SecurityRequest(fid, parts).encode(), data=bytes(descriptor)
        )
        await tree.succeed(exchange, path, "SET_SECURITY_DESC")
