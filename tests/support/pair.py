"""Two mounts of one folder beside each other, a process on each, and what the server says that it has granted them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.caller import Caller, caller_on
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer, wait_for

SOON_S: Final = 10.0  # for what needs a message or two, on however slow a machine: far below LONG_S
LONG_S: Final = 30  # so long are attributes and names believed where only a grant is to help
EXCLUSIVE: Final = {"RW", "RWH", "EXCLUSIVE", "BATCH", "EXCLUSIVE+BATCH"}
SHARED: Final = {"R", "RH", "LEVEL_II"}


class Pair(NamedTuple):
    """Two mounts of one folder, a process on each, and the server."""

    server: SambaServer
    folder: Path  # on the server's disk
    mounts: tuple[Mount, Mount]
    first: Caller
    second: Caller

    def granted(self, name: str) -> list[str]:
        """Return what the server says that it has granted on a file."""
        return self.server.grants(self.folder / name)


@contextlib.contextmanager
def pair_on(server: SambaServer, folder: Path, mount: Callable[..., Mount], options: Options) -> Iterator[Pair]:
    """Mount a folder of the server's share twice, with these options."""
    first, second = (mount(server, options, subfolder=f"/{folder.name}") for _ in range(2))
    with caller_on(first) as one, caller_on(second) as other:
        yield Pair(server, folder, (first, second), one, other)


def open_to_write(caller: Caller, name: str = "f", key: str = "w") -> None:
    """Open a file to read and write, made if there is none, and keep its descriptor as `key`."""
    caller.do(f"kept.__setitem__({key!r}, os.open(os.path.join(point, {name!r}), os.O_RDWR | os.O_CREAT, 0o666))")


def write(caller: Caller, data: bytes, offset: int = 0, key: str = "w") -> None:
    """Write by an open descriptor."""
    assert caller.do(f"os.pwrite(kept[{key!r}], {data!r}, {offset})") == len(data)


def save(caller: Caller, data: bytes, name: str = "f") -> None:
    """Write a whole file, as `>` does."""
    caller.do(f"open(os.path.join(point, {name!r}), 'wb').write({data!r})")


def content(caller: Caller, name: str = "f") -> bytes:
    """Read a whole file, as `cat` does."""
    return str(caller.do(f"open(os.path.join(point, {name!r}), 'rb').read().decode('latin-1')")).encode("latin-1")


def names(caller: Caller) -> list[str]:
    """List the folder."""
    return sorted(caller.do("os.listdir(point)"))


def is_there(caller: Caller, name: str) -> bool:
    """Ask for one name."""
    return bool(caller.do(f"os.path.lexists(os.path.join(point, {name!r}))"))


def soon(sight: Callable[[], bool], within_s: float = SOON_S) -> bool:
    """Look until it is so, or the time is over."""
    return wait_for(sight, within_s, pause_s=0.02)
