"""What SMB2 tells of a file by its path, reparse points included."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client import filestat, smb2_requests
from smbfuse.errors import DecodeError, StatusError
from smbfuse.share import FileStat
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.smb2.control import ControlCode, IoctlResponse
from smbfuse.wire.smb2.create import CreateOptions, CreateResponse

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

REPARSE_DATA_SIZE: Final = 16 * 1024  # [MS-FSCC] 2.1.2.1: the largest there is

# What servers say who know no reparse points at all: then this is not one.
_NONE_HERE: Final = frozenset({NtStatus.INVALID_DEVICE_REQUEST, NtStatus.NOT_SUPPORTED, NtStatus.INVALID_PARAMETER})


async def look(tree: Smb2Tree, path: str) -> FileStat:
    """Return what `path` is.

    Cost: 1 round trip: CREATE, QUERY_INFO, CLOSE. One more for a reparse point, to learn which kind it is.
    """
    replies = await tree.compound(
        path,
        tree.create(path, smb2_requests.LOOK, CreateOptions.OPEN_REPARSE_POINT),
        tree.query(),
        smb2_requests.close(),
    )
    created = CreateResponse.decode(replies[0].element)
    return await with_kind(tree, path, tree.stat_of(replies[1], created, path))


async def with_kind(tree: Smb2Tree, path: str, found: FileStat) -> FileStat:
    """Return `found` with the kind that its reparse point gives it; unchanged where the server does not tell.

    Cost: none but for a reparse point, then 1 round trip.
    """
    if not tree.manner.is_vague(found):
        return found
    try:
        point = await reparse_point(tree, path)
    except (StatusError, DecodeError) as error:
        log.debug("reparse point of unknown kind path=%r reason=%s", path, error)
        return found
    device = point.device if isinstance(point, reparse.NfsReparse) else None
    return found._replace(kind=filestat.kind_of_point(point, found.attributes), device=device)


async def read_link(tree: Smb2Tree, path: str) -> str:
    """Return a symlink's target; see `Share.read_link`.  Cost: 1 round trip: CREATE, IOCTL, CLOSE."""
    try:
        return filestat.link_target(await reparse_point(tree, path), path)
    except StatusError as error:
        if error.status in _NONE_HERE:
            raise filestat.no_link(path) from None
        raise


async def reparse_point(tree: Smb2Tree, path: str) -> reparse.ReparsePoint:
    """Return the reparse point that `path` is.  Cost: 1 round trip: CREATE, IOCTL, CLOSE."""
    replies = await tree.compound(
        path,
        tree.create(path, smb2_requests.LOOK, CreateOptions.OPEN_REPARSE_POINT),
        smb2_requests.file_control(ControlCode.FSCTL_GET_REPARSE_POINT, size=REPARSE_DATA_SIZE),
        smb2_requests.close(),
    )
    if replies[1].status != NtStatus.SUCCESS:
        raise status.error(replies[1].status, "FSCTL_GET_REPARSE_POINT", path)
    return reparse.decode(IoctlResponse.decode(replies[1].element).output)
