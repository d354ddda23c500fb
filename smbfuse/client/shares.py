"""Where a mount gets its shares from: one share, or a whole server whose shares are its folders."""

from __future__ import annotations

import trio

from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.supervisor import Supervisor
from smbfuse.errors import NotFound
from smbfuse.status import NtStatus


class Shares:
    """A `ShareSource` over one login: `name` is the only share, or '' for the whole server.

    `path` is the folder of the only share that becomes the mount's root.
    """

    def __init__(self, supervisor: Supervisor, name: str, *, path: str = "") -> None:
        self._supervisor = supervisor
        self._name = name
        self._path = path
        self._shares: dict[str, ReconnectingShare] = {}  # by case-folded name: a server takes every spelling
        self._connecting: dict[str, trio.Lock] = {}

    @property
    def whole_server(self) -> bool:
        return not self._name

    @property
    def state(self) -> str:
        return self._supervisor.state.value

    @property
    def reason(self) -> str:
        """Say why there is no connection; see `ShareSource.reason`."""
        error = self._supervisor.final or self._supervisor.last_error
        return str(error) if error is not None else ""

    @property
    def reachable(self) -> bool:
        return self._supervisor.reachable

    def release(self) -> None:
        """Answer everybody who waits for the server; see `Supervisor.release`."""
        self._supervisor.release()

    def sleep(self) -> None:
        """Hear that this machine is about to sleep; see `ShareSource.sleep`."""
        self._supervisor.asleep = True

    def wake(self) -> None:
        """Hear that this machine is awake: whatever there is of a network may be another."""
        self._supervisor.asleep = False
        self._supervisor.network_changed()

    async def share(self, name: str) -> ReconnectingShare:
        """Return the share called `name`, connected ('' for the only one).

        Cost: 0 round trips when connected before, else 1.
        Raises: NotFound, Denied, and what a dial may raise.
        """
        if not name:
            name = self._name
        elif not self.whole_server:
            raise NotFound(f"no share {name!r} in a mount of one share", status=NtStatus.BAD_NETWORK_NAME)
        key = name.casefold()
        if (known := self._shares.get(key)) is not None:
            return known
        connecting = self._connecting.setdefault(key, trio.Lock())
        async with connecting:
            try:
                if key not in self._shares:
                    share = ReconnectingShare(self._supervisor, name, path=self._path)
                    await share.connect()
                    self._shares[key] = share
                return self._shares[key]
            finally:
                if not connecting.statistics().tasks_waiting:  # whoever waits comes next, and nobody beside it
                    self._connecting.pop(key, None)

    def connected(self) -> list[ReconnectingShare]:
        """Return the shares connected so far, in order of their first use."""
        return list(self._shares.values())

    async def aclose(self) -> None:
        """Disconnect every tree, log off and close, within a few seconds. Never raises."""
        for share in self._shares.values():
            await share.aclose()
        await self._supervisor.aclose()
