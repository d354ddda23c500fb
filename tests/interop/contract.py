"""The contract of `smbfuse.share`, as checks that every implementation must pass: this is how they are declared.

A check is a small coroutine that is given a `Stage`: the share, another client's connection to it, and a folder of its
own. What it needs is said by features, never by the name of a dialect.
"""

from __future__ import annotations

import contextlib
import errno as posix
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest
import trio

from smbfuse.errors import SmbError
from smbfuse.share import Caching, Creation, Features, OpenFile, OpenIntent, Share

READING: Final = OpenIntent()
WRITING: Final = OpenIntent(write=True)
MAKING: Final = OpenIntent(write=True, creation=Creation.EXCLUSIVE)
EVERYTHING: Final = Caching.READ | Caching.WRITE | Caching.HANDLE


@dataclass(frozen=True)
class Stage:
    """Where a check is played."""

    share: Share
    other: Share  # another client's
    folder: str

    @property
    def posix(self) -> bool:
        """Whether names, modes and open files are the server's as POSIX has them."""
        return Features.POSIX in self.share.features

    def at(self, name: str) -> str:
        """Return the path of `name` in the check's folder."""
        return f"{self.folder}/{name}"

    async def make(self, name: str, data: bytes = b"") -> str:
        """Make a file and return its path."""
        path = self.at(name)
        file = await self.share.open(path, MAKING)
        if data:
            assert await file.write(0, [data]) == len(data)
        await file.aclose()
        return path

    async def read(self, name: str) -> bytes:
        """Return a whole small file."""
        file = await self.share.open(self.at(name), READING)
        data = await whole(file)
        await file.aclose()
        return data

    async def names(self, name: str = "") -> list[str]:
        """List the check's folder, or one in it."""
        listing = await self.share.open_directory(self.at(name) if name else self.folder)
        found = []
        while page := await listing.page():
            found += [entry.name for entry in page]
        await listing.aclose()
        return sorted(found)


Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """One rule. `needs` and `without` are features; `lossy`: it holds too where every answer is lost once.

    `in_memory`: it holds where every byte of a file is kept, holes included.
    """

    play: Play
    needs: Features
    without: Features
    lossy: bool
    in_memory: bool

    @property
    def name(self) -> str:
        return self.play.__name__

    def applies(self, features: Features) -> bool:
        """Tell whether a share with `features` can be held to it."""
        return self.needs in features and not self.without & features


CHECKS: Final[list[Check]] = []


def check(
    *,
    needs: Features = Features.NONE,
    without: Features = Features.NONE,
    lossy: bool = True,
    in_memory: bool = True,
) -> Callable[[Play], Play]:
    """Add a coroutine to the contract."""

    def add(play: Play) -> Play:
        CHECKS.append(Check(play, needs, without, lossy, in_memory))
        return play

    return add


@contextlib.contextmanager
def refused(error: type[SmbError], *errnos: int) -> Iterator[None]:
    """Expect a refusal: its class, and one of `errnos` for the program if any are named."""
    with pytest.raises(error) as raised:
        yield
    if errnos:
        names = [posix.errorcode.get(number, str(number)) for number in (raised.value.errno, *errnos)]
        assert raised.value.errno in errnos, f"{names[0]} instead of {' or '.join(names[1:])}: {raised.value}"


async def whole(file: OpenFile) -> bytes:
    """Read an open file from its start to its end."""
    data = b""
    while piece := await file.read(len(data), 65536):
        data += piece
    return data


class Holder:
    """A holder of a grant that writes down what it hears."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(16)
        self.breaks: list[tuple[Caching, bool]] = []
        self.losses = 0
        self.heard = trio.Event()

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.breaks.append((remaining, acknowledge))
        self.heard.set()

    def lost(self) -> None:
        self.losses += 1

    def regained(self) -> None:
        """Hear what nobody here counts."""
