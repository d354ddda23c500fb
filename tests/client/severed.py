"""A line to a share in memory that is cut where a test says: before a call leaves, on its way, or on the way back.

world = World()
async with world.share() as share:           # a ReconnectingShare
    world.cut("rename", ANSWER_LOST)         # the next one is executed, and nobody hears of it
    await share.rename("a", "b", replace=True)
"""

import contextlib
import enum
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import trio

from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.session import Identity, ServerClock
from smbfuse.client.supervisor import Supervisor
from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import Caching, Features
from tests.support.mem_disk import EPOCH_NS, MemDisk
from tests.support.mem_files import MemDirectory, MemFile
from tests.support.mem_share import MemShare
from tests.support.mem_watch import MemWatch

TIMEO_S: Final = 30.0
DIAL_S: Final = 3.0  # how long there is no connection
BY_HANDLE: Final = {"change": "change_open", "stand_aside": "stand_aside"}


class Harm(enum.Enum):
    """What becomes of a call."""

    UNSENT = enum.auto()  # the connection ends before it leaves
    REQUEST_LOST = enum.auto()  # it leaves and does not arrive
    ANSWER_LOST = enum.auto()  # it is executed, and the connection ends
    LATE = enum.auto()  # it is executed, and no answer comes in time; the connection stands
    IGNORED = enum.auto()  # it is not executed, and no answer comes in time; the connection stands


class TimedDisk(MemDisk):
    """A disk whose clock runs as the test's does, `lag_ns` behind it; no time on it is a whole second."""

    lag_ns = 0

    def tick(self) -> int:
        self._now_ns = max(self._now_ns + 100, now_ns() - self.lag_ns)
        self.stirred.stir()
        return self._now_ns


def now_ns() -> int:
    """Return what the server's clock says."""
    return EPOCH_NS + 123_456_700 + round(trio.current_time() * 1e9)


class World:
    """A server, and the line to it."""

    def __init__(self, *, features: Features = Features.NONE, grants: Caching = Caching.NONE) -> None:
        self.disk = TimedDisk(
            case_sensitive=Features.CASE_SENSITIVE in features, keeps_modes=Features.POSIX in features
        )
        self.features = features
        self.grants = grants
        self.tells_time = True
        self.refuses = False  # every dial
        self.dials = 0
        self.calls: Counter[str] = Counter()
        self.line: Line | None = None
        self.harms: list[tuple[str, Harm]] = []
        self.harm_at: tuple[int, Harm] | None = None  # the call of this number, whatever it is
        self.afterwards: dict[str, Callable[[], object]] = {}  # what happens once the next such call is answered

    def cut(self, operation: str, *harms: Harm) -> None:
        """Let the next calls of `operation` come to harm, the first one first."""
        self.harms += [(operation, harm) for harm in harms]

    def harm(self, operation: str) -> Harm | None:
        """Count a call, and say what becomes of it."""
        self.calls[operation] += 1
        if self.harm_at is not None and self.calls.total() == self.harm_at[0]:
            return self.harm_at[1]
        for one in self.harms:
            if one[0] == operation:
                self.harms.remove(one)
                return one[1]
        return None

    def lose(self) -> None:
        """End the connection in force."""
        assert self.line is not None
        self.line.abort(ConnectionLost("cut", sent=True))

    def other(self) -> MemShare:
        """Return another client's connection."""
        return MemShare(features=self.features, disk=self.disk)

    async def dial(self, nursery: trio.Nursery) -> "Login":
        self.dials += 1
        await trio.sleep(0 if self.dials == 1 else DIAL_S)
        if self.refuses:
            raise ConnectionLost("refused", sent=False)
        self.line = Line(self)
        return Login(self.line)

    @contextlib.asynccontextmanager
    async def share(self, *, path: str = "") -> AsyncIterator[ReconnectingShare]:
        """Connect, and end everything afterwards."""
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(self.dial, nursery, timeo_s=TIMEO_S)  # type: ignore[arg-type]  # no sockets here
            share = ReconnectingShare(supervisor, "share", path=path)
            await share.connect()
            yield share
            await share.aclose()
            await supervisor.aclose()


class Line:
    """One connection, as the supervisor sees it, and the share behind it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = MemShare(features=world.features, grants=world.grants, disk=world.disk)
        self.lost_because: SmbError | None = None
        self.on_ended: Callable[[], None] | None = None
        self.stream = type("Stream", (), {"peer": "memory"})
        self.probing = False
        self.silent_since: float | None = None

    def abort(self, error: SmbError) -> None:
        if self.lost_because is None:
            self.lost_because = error
            self.memory.lose_connection()  # which tells the holders, as the dialects' shares do
            if self.on_ended is not None:
                self.on_ended()

    async def carry(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Carry one call to the server and its answer back, as far as they come."""
        harm = self.world.harm(operation)
        if harm is Harm.UNSENT:
            self.abort(ConnectionLost("cut", sent=True))
        if self.lost_because is not None:
            raise ConnectionLost("not sent", sent=False)
        if harm is Harm.REQUEST_LOST:
            self.abort(ConnectionLost("cut", sent=True))
            raise ConnectionLost("cut", sent=True)
        if harm is Harm.IGNORED:
            await trio.sleep(TIMEO_S)
            raise Timeout("no answer")
        try:
            answer = await call()
        except SmbError:
            if harm is None and self.lost_because is None:
                raise
            answer = None
        if (errand := self.world.afterwards.pop(operation, None)) is not None:
            errand()
        if harm is Harm.ANSWER_LOST:
            self.abort(ConnectionLost("cut", sent=True))
        if harm is Harm.LATE:
            await trio.sleep(TIMEO_S)
            raise Timeout("no answer")
        if self.lost_because is not None:
            raise ConnectionLost(str(self.lost_because), sent=True)
        if isinstance(answer, MemFile | MemDirectory | MemWatch):
            return Far(self, answer)
        return answer


class Far:
    """A share, file or listing at the other end of a line: every call of it is carried."""

    def __init__(self, line: Line, near: MemShare | MemFile | MemDirectory | MemWatch) -> None:
        self._line = line
        self._near = near

    def __getattr__(self, name: str) -> Any:
        near = getattr(self._near, name)
        if name in ("aclose", "acknowledge"):  # never raise
            return near
        if not callable(near):
            return near
        operation = BY_HANDLE.get(name, name) if isinstance(self._near, MemFile) else name

        async def carried(*args: Any, **kwargs: Any) -> Any:
            return await self._line.carry(operation, lambda: near(*args, **kwargs))

        return carried


class Login:
    """What a dial gives."""

    identity = Identity(dialect=0x0311, signing=3, sealing=2, server=b"memory")

    def __init__(self, line: Line) -> None:
        self.connection = line
        self.clock = ServerClock(now_ns(), trio.current_time()) if line.world.tells_time else None

    async def connect_share(self, name: str) -> Far:
        return Far(self.connection, self.connection.memory)

    async def aclose(self) -> None:
        self.connection.abort(ConnectionLost("logged off", sent=False))
