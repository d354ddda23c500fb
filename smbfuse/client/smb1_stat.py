"""Asking an SMB1 server for the attributes of one file, by its path or by its handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.smb1_levels import CORE_QUERY, decode_core_stat, decode_stat, without_id
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.files import QueryInformationRequest, QueryInformationResponse
from smbfuse.wire.smb1.trans2 import EaErrorResponse, QueryFileRequest, QueryPathRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.smb1 import Reply, Smb1Exchange
    from smbfuse.share import FileStat

STAT_SIZE: Final = 16 * 1024  # some 100 bytes and a path, which some servers refuse to cut


class StatQuery:
    """A question that is on its way from the moment it is made, so that it can share a flight with others."""

    def __init__(self, tree: Smb1Tree, path: str, *, fid: int | None = None) -> None:
        self._tree = tree
        self._path = path
        self._fid = fid
        self._level = tree.stat_ladder.level
        self._exchange = self._ask()

    def give_up(self) -> None:
        """Ask no longer, if the question has not left yet; else its answer is ignored."""
        if not self._exchange.sent and not self._exchange.done:
            self._tree.engine.cancel(self._exchange)

    async def result(self) -> FileStat:
        """Return the answer.

        Cost: 1 round trip from the moment of asking; one more each time that the server turns out not to know a level.
        Raises: NotFound, Denied, WrongKind.
        """
        tree = self._tree
        while True:
            reply = await tree.perform_one(self._exchange)
            # BUFFER_OVERFLOW: only the path behind the attributes did not fit.
            if reply.status in (NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW):
                tree.stat_ladder.worked(self._level)
                found = self._decode(reply)
                return found if tree.gives_ids else without_id(found)
            if not tree.stat_ladder.step_down(self._level, reply.status):
                raise status.error(reply.status, "QUERY_PATH_INFORMATION", self._path)
            self._level = tree.stat_ladder.level
            self._exchange = self._ask()

    def _ask(self) -> Smb1Exchange:
        tree = self._tree
        if self._level == CORE_QUERY:
            return tree.submit(QueryInformationRequest(tree.wire_path(self._path)))
        if self._fid is not None:
            by_handle = QueryFileRequest(self._fid, self._level)
            subcommand, parameters = by_handle.subcommand, by_handle.encode()
        else:
            by_path = QueryPathRequest(self._level, tree.wire_path(self._path))
            subcommand, parameters = by_path.subcommand, by_path.encode(tree.strings)
        return tree.transact2(subcommand, parameters, max_parameters=EaErrorResponse.SIZE, max_data=STAT_SIZE)

    def _decode(self, reply: Reply) -> FileStat:
        tree = self._tree
        if self._level == CORE_QUERY:
            response = QueryInformationResponse.decode_block(reply.block, tree.strings)
            return decode_core_stat(response, tree.zone_minutes)
        return decode_stat(self._level, reply.data, tree.strings, tree.zone_minutes)
