"""Reparse points of an SMB1 share without UNIX extensions: symlinks of NT servers.  [MS-SMB] 2.2.7.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import filestat
from smbfuse.client.smb1_levels import NOT_KNOWN
from smbfuse.client.smb1_open import opened
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.smb1.files import NtAccess, NtOptions
from smbfuse.wire.smb1.nt_transact import IoctlSetup, NtFunction

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

FSCTL_GET_REPARSE_POINT: Final = 0x000900A8
REPARSE_DATA_SIZE: Final = 16 * 1024  # [MS-FSCC] 2.1.2.1: the largest there is
_IS_FSCTL: Final = 1


async def read_reparse_point(tree: Smb1Tree, path: str) -> reparse.ReparsePoint:
    """Return what the reparse point `path` holds.

    Cost: 2 round trips: NT_CREATE_ANDX and IOCTL; nobody waits for the CLOSE.
    Raises: NotFound, Denied, WrongKind (EINVAL: not a reparse point, or the server knows none).
    """
    async with opened(tree, path, NtAccess.READ_ATTRIBUTES, NtOptions.OPEN_REPARSE_POINT) as fid:
        setup = IoctlSetup(FSCTL_GET_REPARSE_POINT, fid, _IS_FSCTL, 0).encode()
        reply = await tree.perform_one(tree.nt_transact(NtFunction.IOCTL, b"", setup=setup, max_data=REPARSE_DATA_SIZE))
    if reply.status in NOT_KNOWN or reply.status == NtStatus.INVALID_PARAMETER:
        raise filestat.no_link(path)  # what servers say who know no reparse points: then this is not one
    if reply.status != NtStatus.SUCCESS:
        raise status.error(reply.status, "FSCTL_GET_REPARSE_POINT", path)
    return reparse.decode(reply.data)
