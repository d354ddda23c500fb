"""Calls that are counted, logged, delayed, held back or made to fail, as a test says.

share.delays["read"] = 0.1              # seconds, each time
share.fail("stat", Timeout("…"))        # the next call; `times=` and `path=` narrow it
with share.held("read"):                # until the block is left
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from smbfuse.errors import SmbError


@dataclass
class _Failure:
    operation: str
    error: SmbError
    path: str | None
    times: int


class Calls:
    """What happens on the way to a server in memory."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self.delays: dict[str, float] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self._failures: list[_Failure] = []
        self._gates: dict[str, trio.Event] = {}

    def fail(self, operation: str, error: SmbError, *, path: str | None = None, times: int = 1) -> None:
        """Let the next calls of an operation fail, before they do anything."""
        self._failures.append(_Failure(operation, error, path, times))

    @contextlib.contextmanager
    def held(self, operation: str) -> Iterator[None]:
        """Hold back every answer to an operation until the block is left."""
        gate = self._gates[operation] = trio.Event()
        try:
            yield
        finally:
            del self._gates[operation]
            gate.set()

    async def perform(self, operation: str, path: str) -> None:
        """Count a call, then let it wait or fail as scripted."""
        self.calls[operation] += 1
        self.log.append((operation, path))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.lowlevel.checkpoint()
            if operation in self.delays:
                await trio.sleep(self.delays[operation])
            if operation in self._gates:
                await self._gates[operation].wait()
        finally:
            self.in_flight -= 1
        for failure in self._failures:
            if failure.operation == operation and failure.path in (None, path):
                failure.times -= 1
                if not failure.times:
                    self._failures.remove(failure)
                raise failure.error
