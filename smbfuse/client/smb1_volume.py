"""What an SMB1 server tells of a whole share: the UNIX extensions it has, and the room that is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import BY_COMMAND, Ladder
from smbfuse.errors import SecurityRefused
from smbfuse.share import Space
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileFsAttributeInformation, FileFsFullSizeInformation, FileFsSizeInformation
from smbfuse.wire.smb1.files import QueryInformationDiskRequest, QueryInformationDiskResponse
from smbfuse.wire.smb1.levels import FsLevel, InfoAllocation, PosixFsInfo, UnixCapabilities, UnixInfo
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.trans2 import QueryFsRequest, SetFsRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange

log = logging.getLogger(__name__)

NAME_MAX: Final = 255
FS_SIZE: Final = 1024  # of any answer here, file system names included
_WANTED: Final = UnixCapabilities.POSIX_PATHNAMES | UnixCapabilities.POSIX_PATH_OPERATIONS | UnixCapabilities.LARGE_READ


async def agree_on_unix(tree: Smb1Tree, where: str) -> UnixCapabilities:
    """Tell the server which of its UNIX extensions we use, and return those; none if it has none after all.

    The server's list and our choice travel together: a choice that the server does not have is not made.

    Cost: 1 round trip.
    Raises: SecurityRefused (the share demands an encryption of its own, which only its maker's clients have).
    """
    asked = _query(tree, FsLevel.UNIX_INFO)
    choice = SetFsRequest(0, FsLevel.UNIX_INFO)
    told = tree.transact2(
        choice.subcommand, choice.encode(), data=UnixInfo(1, 0, int(_WANTED)).encode(), max_parameters=0, max_data=0
    )
    offer = await tree.perform_one(asked)
    answer = await tree.perform_one(told)
    if offer.status != NtStatus.SUCCESS:
        return UnixCapabilities(0)
    info = UnixInfo.decode(offer.data)
    if info.capabilities & UnixCapabilities.TRANSPORT_ENCRYPTION_MANDATORY:
        raise SecurityRefused(
            f"{where} demands Samba's encryption of SMB1, which smbfuse has not; mount it with vers=3.0 or better"
        )
    if answer.status != NtStatus.SUCCESS:
        log.info("UNIX extensions refused share=%s status=0x%08X", where, answer.status)
        return UnixCapabilities(0)
    return UnixCapabilities(info.capabilities) & _WANTED


class Volume:
    """The room on a share's volume, asked for in the best level that the server knows."""

    def __init__(self, tree: Smb1Tree) -> None:
        self._tree = tree
        levels = [FsLevel.QUERY_FS_SIZE_INFO, FsLevel.INFO_ALLOCATION, BY_COMMAND]
        if tree.has(Capabilities.INFOLEVEL_PASSTHRU):
            levels.insert(0, FsLevel.PASS_THROUGH_FULL_SIZE)
        if tree.posix:
            levels.insert(0, FsLevel.POSIX_FS_INFO)
        self._ladder = Ladder(levels)
        self._name_max: int | None = None

    async def space(self) -> Space:
        """Return the room; see `Share.space`.

        Cost: 1 round trip; what a name may be is asked for in the same flight, once.
        """
        naming = None
        if self._name_max is None and self._tree.has(Capabilities.NT_SMBS):
            naming = _query(self._tree, FsLevel.QUERY_FS_ATTRIBUTE_INFO)
        while True:
            level = self._ladder.level
            if level == BY_COMMAND:
                exchange = self._tree.submit(QueryInformationDiskRequest())
            else:
                exchange = _query(self._tree, level)
            reply = await self._tree.perform_one(exchange)
            if reply.status == NtStatus.SUCCESS:
                self._ladder.worked(level)
                break
            if not self._ladder.step_down(level, reply.status):
                raise status.error(reply.status, "QUERY_FS_INFORMATION")
        if naming is not None:
            self._name_max = _decode_name_max(await self._tree.perform_one(naming))
        return self._decode(level, reply)._replace(name_max=self._name_max or NAME_MAX)

    def _decode(self, level: int, reply: Reply) -> Space:
        if level == FsLevel.POSIX_FS_INFO:
            posix = PosixFsInfo.decode(reply.data)
            return _space(posix.total_blocks, posix.blocks_available, posix.user_blocks_available, posix.block_size)
        if level == FsLevel.PASS_THROUGH_FULL_SIZE:
            full = FileFsFullSizeInformation.decode(reply.data)
            return _space(
                full.total_allocation_units,
                full.actual_available_allocation_units,
                full.caller_available_allocation_units,
                full.sectors_per_allocation_unit * full.bytes_per_sector,
            )
        if level == FsLevel.QUERY_FS_SIZE_INFO:
            size = FileFsSizeInformation.decode(reply.data)
            free, unit = size.available_allocation_units, size.sectors_per_allocation_unit * size.bytes_per_sector
            return _space(size.total_allocation_units, free, free, unit)
        if level == FsLevel.INFO_ALLOCATION:
            old = InfoAllocation.decode(reply.data)
            return _space(old.total_units, old.free_units, old.free_units, old.sectors_per_unit * old.sector_size)
        disk = QueryInformationDiskResponse.decode_block(reply.block, self._tree.strings)
        return _space(disk.total_units, disk.free_units, disk.free_units, disk.blocks_per_unit * disk.block_size)


def _query(tree: Smb1Tree, level: int) -> Smb1Exchange:
    request = QueryFsRequest(level)
    return tree.transact2(request.subcommand, request.encode(), max_parameters=0, max_data=FS_SIZE)


def _decode_name_max(reply: Reply) -> int:
    if reply.status not in (NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW):
        return NAME_MAX
    return FileFsAttributeInformation.decode(reply.data).maximum_component_name_length or NAME_MAX


def _space(total: int, free: int, available: int, unit: int) -> Space:
    return Space(max(0, total) * unit, max(0, free) * unit, max(0, available) * unit, unit)
