"""Watching a folder over SMB1: NT_TRANSACT_NOTIFY_CHANGE.  [MS-CIFS] 2.2.7.4, 3.2.4.39, 3.3.5.59.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from smbfuse import status
from smbfuse.client.smb1_open import close, open_for_errand
from smbfuse.client.watching import SHOWN, StandingWatch, claim, stand
from smbfuse.errors import Unsupported
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.control import EchoMessage
from smbfuse.wire.smb1.files import NtAccess, NtOptions
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.nt_transact import NotifyChangeSetup, NtFunction

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.engine.exchange import Exchange

LARGEST: Final = 60 * 1024  # bytes that one answer may tell: it fits one message, whatever its header and words take

_PLACES: Final = 2  # the fewest, one of them for the request that stands


class Smb1WatchedFolder:
    """An open folder of an SMB1 tree. Implements `watching.WatchedFolder`."""

    def __init__(self, tree: Smb1Tree, path: str, fid: int, *, recursive: bool) -> None:
        self.path = path
        self._tree = tree
        self._fid = fid
        self._setup = NotifyChangeSetup(int(SHOWN), fid, int(recursive)).encode()

    def ask(self) -> Exchange[Any]:
        """Have the NT_TRANSACT_NOTIFY_CHANGE sent; see `WatchedFolder.ask`."""
        return self._tree.nt_transact(
            NtFunction.NOTIFY_CHANGE, b"", setup=self._setup, max_parameters=LARGEST, standing=True
        )

    async def heard(self) -> None:
        """Wait for the answer to an ECHO that does not overtake; see `WatchedFolder.heard`."""
        await self._tree.perform_one(self._tree.submit(EchoMessage(1, b"")))

    def answer(self, exchange: Exchange[Any]) -> tuple[int, memoryview]:
        """Return status and changes; see `WatchedFolder.answer`."""
        (reply,) = exchange.replies
        return reply.status, reply.parameters

    def give_back(self, exchange: Exchange[Any]) -> None:
        """Cancel, and close; see `WatchedFolder.give_back`."""
        self._tree.engine.cancel(exchange)
        close(self._tree, self._fid)


def can_watch(tree: Smb1Tree) -> bool:
    """Tell whether the server knows notifications, as far as it has shown, and has a place for the request."""
    window = tree.engine.window
    return tree.notifies and tree.has(Capabilities.NT_SMBS) and window.capacity + window.standing >= _PLACES


async def watch(tree: Smb1Tree, path: str, *, recursive: bool) -> StandingWatch:
    """Watch a folder; see `Share.watch`.

    Cost: 2 round trips: NT_CREATE_ANDX, then the request that stands beside an ECHO. There is no interim response that
    would tell that it was accepted.
    """
    if not tree.has(Capabilities.NT_SMBS):
        raise status.error(NtStatus.NOT_SUPPORTED, "NOTIFY_CHANGE", path)
    window = tree.engine.window
    claim(window, path)
    try:
        fid = await open_for_errand(tree, path, NtAccess.READ_DATA, NtOptions.DIRECTORY_FILE)
    except BaseException:
        window.disclaim()
        raise
    try:
        return await stand(Smb1WatchedFolder(tree, path, fid, recursive=recursive), window)
    except Unsupported:
        tree.notifies = False
        raise
