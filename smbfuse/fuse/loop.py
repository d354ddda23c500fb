"""A stand-in for the `trio` that pyfuse3 uses, so that its event loop never blocks in a read.

pyfuse3 3.5 waits until the FUSE descriptor is readable and then reads it with a blocking system call, holding the GIL.
If the request was withdrawn between the two (its caller was killed), the read blocks the whole process until the next
request comes, be that hours. pyfuse3 looks `trio` up in its own module at each use, which its asyncio support relies
on: this module fills that seam with an object that is trio in all but three things.

* `lowlevel.wait_readable` asks the kernel once more after waking, because most withdrawals happen while the task waits
  for its turn. It also makes the descriptor non-blocking.
* `open_nursery` gives workers a second life. In the microseconds between that question and the read a request can
  still be withdrawn; the read then fails with EAGAIN instead of blocking, which ends a pyfuse3 worker, and the worker
  is begun again with the same arguments. And when the mount is undone while the kernel has requests queued, it takes
  away the queue first and the connection a moment later: a read in between fails with ECONNABORTED, which is as good
  an end as the ENODEV that libfuse knows for one.
* `Lock` is a `Turn`. pyfuse3's workers take turns in waiting for the next request, and trio's lock hands the turn to
  the next worker before the request is even looked at. Most requests are answered from memory, without waiting for
  anything: then the same worker might as well go on, and nobody need be woken. So the turn stays where it is until
  the handler waits for something (`waiting`), or the worker ends.
"""

from __future__ import annotations

import os
import select
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

import pyfuse3
import trio

T = TypeVar("T")


def install() -> Lowlevel:
    """Put the stand-in in place, before `pyfuse3.main()`; return what waits for requests."""
    stand_in = _Trio()
    pyfuse3.trio = stand_in  # type: ignore[attr-defined]  # the seam that pyfuse3.asyncio uses
    return stand_in.lowlevel


class Lowlevel:
    """`trio.lowlevel`, with a `wait_readable` that asks again. One for each session, which has one descriptor.

    `gone` is set when the kernel has let go of the session: nothing more will come. pyfuse3 says so only when the last
    handler has ended, and that may wait for a server.
    """

    def __init__(self) -> None:
        self.gone = trio.Event()
        self._descriptor = -1
        self._question = select.poll()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return when `descriptor` can be read without blocking, as seen after waking."""
        if descriptor != self._descriptor:
            os.set_blocking(descriptor, False)
            self._question = select.poll()
            self._question.register(descriptor, select.POLLIN)
            self._descriptor = descriptor
        if self._is_readable():
            # The next request is here already: giving others their turn costs less than having epoll say so.
            await trio.lowlevel.checkpoint()
            if self._is_readable():
                return
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            if self._is_readable():
                return

    def _is_readable(self) -> bool:
        events = self._question.poll(0)
        if events and events[0][1] & select.POLLERR:
            self.gone.set()
        return bool(events)


class Turn(AbstractAsyncContextManager[None]):
    """A lock whose owner, once he has left it, is the next to take it unless he says that somebody else may.

    There is one for a session, and one session in a process.
    """

    current: Turn | None = None

    def __init__(self) -> None:
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()
        Turn.current = self

    async def __aenter__(self) -> None:
        while self._taken:
            await self._waiting.park()
        self._taken = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._taken = False

    def pass_on(self) -> None:
        """Let the next one who waits take it, if it is free."""
        if not self._taken:
            self._waiting.unpark()


@types.coroutine
def waiting(handler: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `handler`; before it waits for the first time, let another worker take the turn."""
    try:
        trap = handler.send(None)
        if Turn.current is not None:
            Turn.current.pass_on()
        while True:
            try:
                answer = yield trap
            except BaseException as error:
                trap = handler.throw(error)
            else:
                trap = handler.send(answer)
    except StopIteration as ended:
        result: T = ended.value
        return result


class _Workers:
    """A nursery whose tasks are begun again when they end with EAGAIN, and end all when the kernel cut the session."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, worker: Callable[..., Awaitable[None]], *args: Any, name: str | None = None) -> None:
        async def tireless() -> None:
            try:
                while True:
                    try:
                        await worker(*args)
                        return
                    except ConnectionAbortedError:
                        pyfuse3.terminate()
                        return
                    except BlockingIOError:
                        # The worker counts as one to pyfuse3 still, so the second life is not counted again. It leaves
                        # its message buffer (1 MiB, hardly touched) behind: too rare to matter.
                        continue
            finally:
                if Turn.current is not None:
                    Turn.current.pass_on()

        self._nursery.start_soon(tireless, name=name)


class _NurseryManager(AbstractAsyncContextManager["_Workers"]):
    def __init__(self) -> None:
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> _Workers:
        return _Workers(await self._manager.__aenter__())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)


class _Trio:
    """`trio`, as far as pyfuse3 is concerned."""

    open_nursery = _NurseryManager
    Lock = Turn

    def __init__(self) -> None:
        self.lowlevel = Lowlevel()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
