"""A server in memory: the waist's `ShareSource`."""

from collections import Counter

import trio

from smbfuse.errors import NotFound
from tests.support.mem_share import MemShare


class MemSource:
    """A server in memory: one share, or several by name."""

    def __init__(self, *shares: MemShare, whole_server: bool = False) -> None:
        self.whole_server = whole_server
        self.shares = {share.name: share for share in shares}
        self.calls: Counter[str] = Counter()
        self._connected: list[MemShare] = []
        self.reachable = True

    async def share(self, name: str) -> MemShare:
        await trio.lowlevel.checkpoint()
        for share in self.shares.values():
            if not self.whole_server or share.name.casefold() == name.casefold():
                if share not in self._connected:
                    self.calls["connect"] += 1
                    self._connected.append(share)
                return share
        raise NotFound(f"no share {name!r}", status=0xC00000CC)

    @property
    def state(self) -> str:
        return "connected" if self.reachable else "waiting"

    @property
    def reason(self) -> str:
        return "" if self.reachable else "it is not there"

    def release(self) -> None:
        self.calls["release"] += 1

    def sleep(self) -> None:
        self.calls["sleep"] += 1
        self.reachable = False

    def wake(self) -> None:
        self.calls["wake"] += 1
        self.reachable = True

    def connected(self) -> list[MemShare]:
        return list(self._connected)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
