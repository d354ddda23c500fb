"""Whether any request of a call has left, however many it makes.

A connection says of each request that it ends whether that one had left. A call that makes a folder asks about it
afterwards: if the question never leaves, the folder is made all the same, and the call may not simply be repeated.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class Departures:
    """What is known of one call."""

    def __init__(self) -> None:
        self.any = False


_of_this_call: ContextVar[Departures | None] = ContextVar("departures", default=None)


@contextlib.contextmanager
def noted() -> Iterator[Departures]:
    """Have it noted if anything leaves that the block, or a task begun in it, waits for."""
    departures = Departures()
    before = _of_this_call.set(departures)
    try:
        yield departures
    finally:
        _of_this_call.reset(before)


def note() -> None:
    """Note that a request of the present call has left."""
    departures = _of_this_call.get()
    if departures is not None:
        departures.any = True
