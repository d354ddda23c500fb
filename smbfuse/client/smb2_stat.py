"""What SMB2 tells of a file by its path, reparse points included.

A listing, and the attributes of a file, tell of a reparse point no more than its kind (and of those of NFS not even
that): where a symlink leads, how long its target is, and the number of a device are asked for one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from smbfuse import status
from smbfuse.client import filestat, smb2_attributes, smb2_requests
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import DecodeError, SmbError, StatusError
from smbfuse.share import DirEntry, Features, FileStat, Kind
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.fscc import FileAttributes
from smbfuse.wire.reparse import ReparseTag
from smbfuse.wire.smb2.control import ControlCode, IoctlResponse
from smbfuse.wire.smb2.create import CreateOptions, CreateResponse

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

REPARSE_DATA_SIZE: Final = 16 * 1024  # [MS-FSCC] 2.1.2.1: the largest there is
AT_ONCE: Final = 32  # reparse points of one page of a listing

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
        device = await _device(tree, path, point)
    except (StatusError, DecodeError) as error:
        log.debug("reparse point of unknown kind path=%r reason=%s", path, error)
        return found
    kind = filestat.kind_of_point(point, found.attributes)
    size = len(_target(tree, point, path).encode("utf-8", "surrogatepass")) if kind is Kind.SYMLINK else found.size
    return found._replace(kind=kind, device=device, size=size)


async def _device(tree: Smb2Tree, path: str, point: reparse.ReparsePoint) -> tuple[int, int] | None:
    """Return the number of a device node; WSL keeps it in an extended attribute."""
    if isinstance(point, reparse.NfsReparse):
        return point.device
    if point.tag not in (ReparseTag.LX_CHR, ReparseTag.LX_BLK):
        return None
    attributes = await smb2_attributes.extended_attributes(tree, path)
    value = attributes.get(reparse.WSL_DEVICE)
    return reparse.decode_wsl_device(value) if value is not None else None


async def settled(tree: Smb2Tree, folder: str, entries: Sequence[DirEntry]) -> Sequence[DirEntry]:
    """Return entries of a listing as `look` would tell of each.

    Cost: none but for symlinks of unknown length and for devices; for those 1 round trip each, many under way at once.
    Raises: ConnectionLost, Timeout.
    """
    vague = [number for number, entry in enumerate(entries) if _is_vague(entry)]
    if not vague:
        return entries
    told = list(entries)
    waiting = iter(vague)
    failures: list[SmbError] = []

    async def ask() -> None:
        for number in waiting:
            name, found = entries[number]
            try:
                told[number] = DirEntry(name, await with_kind(tree, f"{folder}/{name}" if folder else name, found))
            except SmbError as error:
                failures.append(error)
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, len(vague))):
            nursery.start_soon(ask)
    if failures:
        raise failures[0]
    return told


def _is_vague(entry: DirEntry) -> bool:
    name, found = entry
    if not found.attributes & FileAttributes.REPARSE_POINT or "/" in name:
        return False
    return found.kind in filestat.DEVICES or (found.kind is Kind.SYMLINK and not found.size)


async def read_link(tree: Smb2Tree, path: str) -> str:
    """Return a symlink's target; see `Share.read_link`.  Cost: 1 round trip: CREATE, IOCTL, CLOSE."""
    try:
        return _target(tree, await reparse_point(tree, path), path)
    except StatusError as error:
        if error.status in _NONE_HERE:
            raise filestat.no_link(path) from None
        raise


def _target(tree: Smb2Tree, point: reparse.ReparsePoint, path: str) -> str:
    return filestat.link_target(point, path, posix=Features.POSIX in tree.manner.features)


def query_point() -> Request:
    """Return the IOCTL that asks for the reparse point that the compound has opened."""
    return smb2_requests.file_control(ControlCode.FSCTL_GET_REPARSE_POINT, size=REPARSE_DATA_SIZE)


async def reparse_point(tree: Smb2Tree, path: str) -> reparse.ReparsePoint:
    """Return the reparse point that `path` is.  Cost: 1 round trip: CREATE, IOCTL, CLOSE."""
    look = tree.create(path, smb2_requests.LOOK, CreateOptions.OPEN_REPARSE_POINT)
    replies = await tree.compound(path, look, query_point(), smb2_requests.close())
    if replies[1].status != NtStatus.SUCCESS:
        raise status.error(replies[1].status, "FSCTL_GET_REPARSE_POINT", path)
    tree.reparse_points = True
    return reparse.decode(IoctlResponse.decode(replies[1].element).output)
