"""Give a target many strange inputs, each within bounds of time and memory, and report what went wrong."""

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.fuzz.decoders import Target
from tests.fuzz.mutate import Mutator

CPU_S: Final = 2.0  # of processor time for one input of at most 4 KiB
MEMORY: Final = 512 << 20  # bytes that decoding may add to the process's address space
MOST_FAILURES: Final = 5  # kept of one target


class TooSlow(BaseException):
    """One input took longer than `CPU_S`. No Exception, so that no handler of the decoder's catches it."""


@dataclass(slots=True)
class Outcome:
    """What became of the inputs given to one target."""

    name: str
    seed: str
    inputs: int = 0
    values: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)  # the error, and the input in hex digits

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound memory, and let `TooSlow` be raised by the timer that `fuzz` arms for each input. Main thread only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, handler)


def fuzz(target: Target, inputs: int, seed: str) -> Outcome:
    """Give `inputs` mutations of its seeds to `target`. The same `seed` gives the same inputs."""
    mutator = Mutator(random.Random(seed), target.seeds, head=target.head)
    outcome = Outcome(target.name, seed)
    began = time.monotonic()
    with bounded():
        for data in (mutator.next() for _ in range(inputs)):
            outcome.inputs += 1
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
            try:
                target.call(data)
            except target.errors:
                outcome.refused += 1
            except (Exception, TooSlow) as error:
                outcome.failures.append(f"{type(error).__name__}: {error} -- {data.hex()}")
                if len(outcome.failures) == MOST_FAILURES:
                    break
            else:
                outcome.values += 1
    outcome.seconds = round(time.monotonic() - began, 2)
    return outcome


def _too_slow(*_: object) -> None:
    raise TooSlow(f"more than {CPU_S:g} s of processor time")


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
