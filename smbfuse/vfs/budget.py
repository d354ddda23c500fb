"""How many bytes may wait in memory to be written, for how long, and who has to wait until there are fewer.

Two bounds. `dirty_limit`, because memory is not endless. And what the server took in `BREAK_S` seconds lately: another
client that opens the file waits until all of it is written, and the server's patience with us ends after some 35 s.
"""

from typing import Final, Protocol

import trio

from smbfuse.vfs.blocks import Spawn

GATHER_S: Final = 1.0  # longest time that a write waits for others to share a request with
BREAK_S: Final = 8.0  # what may wait shall be written in so many seconds
LEAST: Final = 4 << 20  # bytes that may wait however slow the server is
MEASURED_S: Final = 0.25  # a shorter time of writing says too little about the speed


class Writer(Protocol):
    """The unsaved bytes of one file; see `Writeback`."""

    def press(self) -> None:
        """Send everything, soon."""
        ...


class Pace:
    """How many bytes a second the server takes while it has something to write. Pure: time is an argument."""

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None  # None: not known yet
        self._under_way = 0
        self._since = 0.0  # when the first of them was sent, or the speed was last measured
        self._written = 0

    def sent(self, now: float) -> None:
        """Hear that a request was sent."""
        if not self._under_way:
            self._since, self._written = now, 0
        self._under_way += 1

    def answered(self, length: int, now: float) -> None:
        """Hear that a request, of `length` bytes, was answered."""
        self._under_way -= 1
        self._written += length
        elapsed = now - self._since
        if elapsed >= MEASURED_S:
            rate = self._written / elapsed
            self.bytes_per_s = rate if self.bytes_per_s is None else (self.bytes_per_s + rate) / 2
            self._since, self._written = now, 0


class Budget:
    """The dirty bytes of all files of a mount."""

    def __init__(self, limit: int, spawn: Spawn) -> None:
        self.spawn = spawn
        self.held = 0  # bytes that wait or are under way, with what they cost besides
        self._limit = limit
        self._pace = Pace()
        self._held_by: dict[Writer, int] = {}
        self._since: dict[Writer, float] = {}  # who holds any, and since when; in that order
        self._freed = trio.lowlevel.ParkingLot()
        self._ticking = False

    def __repr__(self) -> str:
        return f"<Budget {self.held} of {self.limit} bytes, {len(self._since)} files>"

    @property
    def limit(self) -> int:
        """Return how many bytes may wait now."""
        rate = self._pace.bytes_per_s
        return self._limit if rate is None else min(self._limit, max(LEAST, int(rate * BREAK_S)))

    async def room(self, length: int) -> None:
        """Wait until `length` bytes more may wait. Alone, they always may."""
        while self.held and self.held + length > self.limit:
            for writer in list(self._since):
                writer.press()
            await self._freed.park()

    def account(self, writer: Writer, held: int) -> None:
        """Hear how many bytes a file has now."""
        before = self._held_by.get(writer, 0)
        if held == before:
            return
        self.held += held - before
        if held:
            self._held_by[writer] = held
        else:
            del self._held_by[writer]
        if held < before:
            self._freed.unpark_all()
        if not held:
            del self._since[writer]
        elif not before:
            self._since[writer] = trio.current_time()
            self._tick_later()

    def sent(self) -> None:
        """Hear that a request was sent to the server."""
        self._pace.sent(trio.current_time())

    def answered(self, length: int) -> None:
        """Hear that a request, of `length` bytes, was answered."""
        self._pace.answered(length, trio.current_time())

    def _tick_later(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.spawn(self._tick)

    async def _tick(self) -> None:
        """Have every file send what has waited long enough."""
        try:
            while self._since:
                await trio.sleep_until(min(self._since.values()) + GATHER_S)
                now = trio.current_time()
                for writer, since in list(self._since.items()):
                    if since + GATHER_S <= now:
                        self._since[writer] = now
                        writer.press()
        finally:
            self._ticking = False
