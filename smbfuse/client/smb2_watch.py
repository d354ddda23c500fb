"""Watching a folder over SMB2: CHANGE_NOTIFY.  [MS-SMB2] 2.2.35, 3.2.4.16, 3.3.5.19."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from smbfuse.client.watching import SHOWN, StandingWatch, claim, stand
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import Unsupported
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.control import EchoRequest
from smbfuse.wire.smb2.create import Access, CreateOptions
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.notify import ChangeNotifyFlags, ChangeNotifyRequest, ChangeNotifyResponse

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree
    from smbfuse.engine.exchange import Exchange

LARGEST: Final = 64 * 1024  # bytes that one answer may tell: more is refused by Windows, and costs a second credit

_WATCH: Final = Access.FILE_LIST_DIRECTORY | Access.SYNCHRONIZE


class Smb2WatchedFolder:
    """An open folder of an SMB2 tree. Implements `watching.WatchedFolder`."""

    def __init__(self, tree: Smb2Tree, path: str, file_id: bytes, *, recursive: bool) -> None:
        self.path = path
        self._tree = tree
        self._file_id = file_id
        length = min(LARGEST, tree.sizes.transact)
        flags = ChangeNotifyFlags.WATCH_TREE if recursive else ChangeNotifyFlags(0)
        request = ChangeNotifyRequest(int(flags), length, file_id, int(SHOWN))
        self._request = Request(Command.CHANGE_NOTIFY, request.encode(), payload=length)

    def ask(self) -> Exchange[Any]:
        """Have the CHANGE_NOTIFY sent; see `WatchedFolder.ask`."""
        exchange = self._tree.engine.submit((self._request,), tree=self._tree.tree, standing=True)
        self._tree.connection.post()
        return exchange

    async def heard(self) -> None:
        """Wait for the answer to an ECHO that does not overtake; see `WatchedFolder.heard`."""
        await self._tree.wait(self._tree.queue(Request(Command.ECHO, EchoRequest().encode())))

    def answer(self, exchange: Exchange[Any]) -> tuple[int, memoryview]:
        """Return status and changes; see `WatchedFolder.answer`."""
        (reply,) = exchange.replies
        if reply.status != NtStatus.SUCCESS:
            return reply.status, memoryview(b"")
        return reply.status, ChangeNotifyResponse.decode(reply.element).changes

    def give_back(self, exchange: Exchange[Any]) -> None:
        """Cancel, and close; see `WatchedFolder.give_back`."""
        self._tree.engine.cancel(exchange)
        self._tree.close(self._file_id)


async def watch(tree: Smb2Tree, path: str, *, recursive: bool) -> StandingWatch:
    """Watch a folder; see `Share.watch`.  Cost: 2 round trips: CREATE, then CHANGE_NOTIFY beside an ECHO."""
    window = tree.engine.window
    claim(window, path)
    try:
        created, _ = await tree.opening(path, (tree.create(path, _WATCH, CreateOptions.DIRECTORY_FILE),))
    except BaseException:
        window.disclaim()
        raise
    try:
        return await stand(Smb2WatchedFolder(tree, path, created.file_id, recursive=recursive), window)
    except Unsupported:
        tree.notifies = False
        raise
