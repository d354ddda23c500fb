"""Where a mount gets its shares from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from smbfuse.share import Share


class ShareSource(Protocol):
    """Where a mount gets its shares from: one share, or a whole server whose shares are looked up by name."""

    @property
    def whole_server(self) -> bool:
        """True: the mount's root is the server, and its folders are shares."""
        ...

    @property
    def state(self) -> str:
        """What there is of a connection, in a word: `connected`, `waiting` …; see docs/connections.md."""
        ...

    @property
    def reason(self) -> str:
        """Why there is no connection, in a sentence; '' if there is one."""
        ...

    @property
    def reachable(self) -> bool:
        """Whether what is asked will soon be answered. If not, what is known is all that can be had."""
        ...

    def release(self) -> None:
        """Answer everybody who waits for the server now (EHOSTDOWN), and whoever asks until there is a connection."""
        ...

    def sleep(self) -> None:
        """Hear that this machine is about to sleep: nothing is `reachable` until `wake`."""
        ...

    def wake(self) -> None:
        """Hear that this machine is awake: the connection is asked for a sign of life, or dialled for, now."""
        ...

    async def share(self, name: str) -> Share:
        """Return the share called `name`, connected; '' is the only share of a mount that is not a whole server.

        Cost: 0 round trips when connected before, else 1 (a TREE_CONNECT).
        Raises: NotFound (no such share), Denied (not for this user).
        """
        ...

    def connected(self) -> Sequence[Share]:
        """Return the shares connected so far, in order of their first use."""
        ...

    async def aclose(self) -> None:
        """Close every share and the connection. Never raises."""
        ...
