"""Reparse points of an SMB1 share without UNIX extensions: symlinks of NT servers.  [MS-SMB] 2.2.7.2."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.client.smb1_files import LEAVE_TIME_ALONE
from smbfuse.client.smb1_levels import NOT_KNOWN
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.smb1.files import (
    IMPERSONATION,
    NT_OPEN,
    CloseRequest,
    NtAccess,
    NtCreateRequest,
    NtOptions,
    NtShare,
    decode_create_response,
)
from smbfuse.wire.smb1.transaction import NtTransactRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

NT_TRANSACT_IOCTL: Final = 2
FSCTL_GET_REPARSE_POINT: Final = 0x000900A8
REPARSE_DATA_SIZE: Final = 16 * 1024  # [MS-FSCC] 2.1.2.1: the largest there is
_IOCTL_SETUP: Final = Struct("<IHBB")  # FunctionCode, FID, IsFsctl, IsFlags
_IS_FSCTL: Final = 1


async def read_reparse_point(tree: Smb1Tree, path: str) -> reparse.ReparsePoint:
    """Return what the reparse point `path` holds.

    Cost: 2 round trips: NT_CREATE_ANDX and IOCTL; nobody waits for the CLOSE.
    Raises: NotFound, Denied, WrongKind (EINVAL: not a reparse point, or the server knows none).
    """
    create = NtCreateRequest(
        flags=0,
        root_directory_fid=0,
        desired_access=int(NtAccess.READ_ATTRIBUTES),
        allocation_size=0,
        ext_file_attributes=0,
        share_access=int(NtShare.READ | NtShare.WRITE | NtShare.DELETE),
        create_disposition=NT_OPEN,
        create_options=int(NtOptions.OPEN_REPARSE_POINT),
        impersonation_level=IMPERSONATION,
        security_flags=0,
        file_name=tree.wire_path(path),
    )
    reply = await tree.perform_one(tree.submit(create))
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "NT_CREATE_ANDX", path)
    fid = decode_create_response(reply.block, tree.strings).fid
    request = NtTransactRequest(
        function=NT_TRANSACT_IOCTL,
        setup=_IOCTL_SETUP.pack(FSCTL_GET_REPARSE_POINT, fid, _IS_FSCTL, 0),
        parameters=b"",
        data=b"",
        max_parameter_count=0,
        max_data_count=REPARSE_DATA_SIZE,
    )
    try:
        exchange = tree.engine.transact(request, tree=tree.tree)
        reply = await tree.perform_one(exchange)
    finally:
        tree.submit(CloseRequest(fid, LEAVE_TIME_ALONE))
    if reply.status in NOT_KNOWN or reply.status == NtStatus.INVALID_PARAMETER:
        raise filestat.no_link(path)  # what servers say who know no reparse points: then this is not one
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "FSCTL_GET_REPARSE_POINT", path)
    return reparse.decode(reply.data)
