"""Asking an SMB1 server for the attributes of one file, by its path or by its handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import (
    ALL_AND_ID,
    BY_COMMAND,
    decode_core_stat,
    decode_stat,
    has_id,
    without_id,
)
from smbfuse.status import NtStatus
from smbfuse.wire.fscc import FileInternalInformation, known_file_id
from smbfuse.wire.smb1.levels import PathLevel
from smbfuse.wire.smb1.names import QueryInformationRequest, QueryInformationResponse
from smbfuse.wire.smb1.trans2 import EaErrorResponse, QueryFileRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1_exchange import Reply, Smb1Exchange
    from smbfuse.share import FileStat

STAT_SIZE: Final = 16 * 1024  # some 100 bytes and a path, which some servers refuse to cut

# BUFFER_OVERFLOW: only the path behind the attributes did not fit.
_DATA_CAME: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})


class StatQuery:
    """A question that is on its way from the moment it is made, so that it can share a flight with others."""

    def __init__(self, tree: Smb1Tree, path: str, *, fid: int | None = None) -> None:
        self._tree = tree
        self._path = path
        self._fid = fid
        self._level = tree.stat_ladder.level
        self._exchanges = self._ask()

    def give_up(self) -> None:
        """Ask no longer, if the question has not left yet; else its answer is ignored."""
        for exchange in self._exchanges:
            if not exchange.sent and not exchange.done:
                self._tree.engine.cancel(exchange)

    async def result(self) -> FileStat:
        """Return the answer.

        Cost: 1 round trip from the moment of asking; one more each time that the server turns out not to know a level.
        Raises: NotFound, Denied, WrongKind.
        """
        ladder = self._tree.stat_ladder
        while True:
            replies = [await self._tree.perform_one(exchange) for exchange in self._exchanges]
            refused = next((reply.status for reply in replies if reply.status not in _DATA_CAME), NtStatus.SUCCESS)
            if self._level == PathLevel.PASS_THROUGH_ALL and not refused and not has_id(replies[0].data):
                refused = NtStatus.INVALID_INFO_CLASS
            if not refused:
                found = self._decode(replies)
                ladder.worked(self._level)  # not before: what cannot be read proves nothing
                return found
            if not ladder.step_down(self._level, refused):
                raise status.error(refused, "QUERY_PATH_INFORMATION", self._path)
            self._level = ladder.level
            self._exchanges = self._ask()

    def _ask(self) -> list[Smb1Exchange]:
        if self._level == BY_COMMAND:
            return [self._tree.submit(QueryInformationRequest(self._tree.wire_path(self._path)))]
        if self._level == ALL_AND_ID:
            return [self._query(PathLevel.QUERY_FILE_ALL_INFO), self._query(PathLevel.PASS_THROUGH_INTERNAL)]
        return [self._query(self._level)]

    def _query(self, level: int) -> Smb1Exchange:
        if self._fid is None:
            return self._tree.query_path(level, self._path, max_data=STAT_SIZE)
        request = QueryFileRequest(self._fid, level)
        return self._tree.transact2(
            request.subcommand, request.encode(), max_parameters=EaErrorResponse.SIZE, max_data=STAT_SIZE
        )

    def _decode(self, replies: Sequence[Reply]) -> FileStat:
        tree = self._tree
        if self._level == BY_COMMAND:
            response = QueryInformationResponse.decode_block(replies[0].block, tree.strings)
            return decode_core_stat(response, tree.zone_minutes)
        found = decode_stat(self._level, replies[0].data, tree.strings, tree.zone_minutes)
        if not tree.gives_ids:
            return without_id(found)
        if self._level == ALL_AND_ID:
            internal = FileInternalInformation.decode(replies[1].data)
            return found._replace(file_id=known_file_id(internal.index_number))
        return found
