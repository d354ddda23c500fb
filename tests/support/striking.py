"""Harm that comes again and again while a program works, and the count of how often it did strike."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from tests.relay import Relay

LOOK_EVERY_S: Final = 0.002


class Strikes:
    """How often it has struck so far."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = threading.Event()


@contextlib.contextmanager
def striking(strike: Callable[[Strikes], None]) -> Iterator[Strikes]:
    """Call `strike` in a thread until the block is left; it does harm when it is time, and returns soon."""
    strikes = Strikes()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not strikes.ended.is_set():
                strike(strikes)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="striking")
    thread.start()
    try:
        yield strikes
    finally:
        strikes.ended.set()
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def cut_every(relay: Relay, count: int, *, to_server: bool) -> Iterator[Strikes]:
    """Cut each connection after `count` bytes in one direction, with FIN and RST by turns; heal at the end.

    The connection that stands at the end is not cut any more.
    """
    first = relay.accepted

    def arm(strikes: Strikes) -> None:
        relay.cut_after(count, to_server=to_server, manner="rst" if strikes.count % 2 else "fin")

    def strike(strikes: Strikes) -> None:
        # One connection at a time: the next one tells that the last one was cut.
        if relay.accepted - first > strikes.count:
            strikes.count = relay.accepted - first
            arm(strikes)
        strikes.ended.wait(LOOK_EVERY_S)

    relay.cut_after(count, to_server=to_server, manner="fin")
    with striking(strike) as strikes:
        yield strikes
    relay.heal()


@contextlib.contextmanager
def silence_every(relay: Relay, progress: Callable[[], int], step: int, times: int) -> Iterator[Strikes]:
    """Have each of the first `times` connections fall silent for ever, once `progress` has gone `step` further by it.

    So one that is there to make good for a silence may do some work first, however far the work had come meanwhile.
    """
    accepted, began = relay.accepted, progress()
    silent = False

    def strike(strikes: Strikes) -> None:
        nonlocal accepted, began, silent
        if relay.accepted != accepted:
            accepted, began, silent = relay.accepted, progress(), False
        elif not silent and strikes.count < times and progress() - began >= step:
            relay.forget(answer=False)
            silent = True
            strikes.count += 1
        strikes.ended.wait(LOOK_EVERY_S)

    with striking(strike) as strikes:
        yield strikes


@contextlib.contextmanager
def strike_at(progress: Callable[[], int], marks: list[int], harm: Callable[[], None]) -> Iterator[Strikes]:
    """Do harm whenever `progress` has reached the next of `marks`."""
    waiting = list(marks)

    def strike(strikes: Strikes) -> None:
        if waiting and progress() >= waiting[0]:
            waiting.pop(0)
            harm()
            strikes.count += 1
        strikes.ended.wait(LOOK_EVERY_S)

    with striking(strike) as strikes:
        yield strikes
