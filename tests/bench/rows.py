"""The rows of `./dev bench`: what is measured, beside whom, and the floor below which a row has failed.

Every figure is a ratio to a peer of the same run, or a count that no noise touches: absolute speed says more about the
machine than about us. Each mount is fresh, so that no cache of ours or of the kernel's answers.
"""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.peers import PEERS
from tests.relay import Relay
from tests.support.mounts import Mount, Options, mounted
from tests.support.samba import SambaServer
from tests.support.users import Installation, User

MIB: Final = 1 << 20
ROUND_TRIP_S: Final = 0.01  # enough to tell what depends on what, short enough for hundreds
HEADERS: Final = 256  # bytes of each packet that the relay keeps: all that counting needs

READ_SMALL_FILES: Final = """
import os, sys, time
folder, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
began = time.perf_counter()
for number in range(count):
    descriptor = os.open(f"{folder}/{number:05}", os.O_RDONLY)
    got = os.read(descriptor, size + 1)
    os.close(descriptor)
    assert len(got) == size, (number, len(got))
print(time.perf_counter() - began)
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row works with."""

    server: SambaServer
    user: User
    installation: Installation
    runs: int
    quick: bool  # a tenth of the sizes: for trying the bench itself, floors still hold

    def mount(self, options: Options, subfolder: str = "") -> AbstractContextManager[Mount]:
        """Mount the share afresh."""
        return mounted(self.server, options, user=self.user, installation=self.installation, subfolder=subfolder)

    def scaled(self, count: int) -> int:
        """Return a size or number as this run wants it."""
        return count // 10 if self.quick else count


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `value` is judged: at least `floor`, or at most `ceiling`."""

    row: str
    ours: str
    theirs: str
    value: float
    unit: str
    floor: float | None = None
    ceiling: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether the value is where it has to be."""
        return (self.floor is None or self.value >= self.floor) and (self.ceiling is None or self.value <= self.ceiling)


def sequential_read(bench: Bench, options: Options) -> Result:
    """`dd bs=1M` of one large file beside smbclient's get of the same, alternating; the medians are compared."""
    size = bench.scaled(1024 * MIB)
    path = bench.server.root / "sequential"
    if not path.exists():
        noise = bytes(range(256)) * (MIB // 256)
        with path.open("wb") as file:
            for _ in range(size // MIB):
                file.write(noise)
    ours, theirs = [], []
    for _ in range(bench.runs):
        told = bench.server.smbclient("get sequential /dev/null")
        # smbclient's own figure leaves out its start and login, as dd's leaves out the mount.
        theirs.append(_smbclient_mib_s(told))
        with bench.mount(options) as mount:
            began = time.perf_counter()
            mount.run("dd", f"if={mount.point / path.name}", "of=/dev/null", "bs=1M", timeout_s=300)
            ours.append(size / MIB / (time.perf_counter() - began))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Result(
        f"sequential read, {size // MIB} MiB, {_shown(options)}",
        f"{mine:.0f} MiB/s",
        f"smbclient {other:.0f} MiB/s",
        mine / other,
        "x",
        floor=0.3,
    )


def _smbclient_mib_s(told: str) -> float:
    match = re.search(r"\(([0-9.]+) KiloBytes/sec\)", told)
    assert match is not None, told
    return float(match[1]) / 1024


def find(bench: Bench, options: Options) -> Result:
    """`find` over 100 folders of 50 files through a delaying relay: dependent round trips, a count without noise."""
    folder = bench.server.root / "walk"
    folders, files = 100, 50
    for outer in range(folders):
        (folder / f"{outer:03}").mkdir(parents=True, exist_ok=True)
        for inner in range(files):
            (folder / f"{outer:03}" / f"file {inner:02}").touch()
    target = ("127.0.0.1", bench.server.port)
    with (
        Relay.started(target, round_trip_s=ROUND_TRIP_S, keep=HEADERS) as relay,
        bench.mount({**options, "port": relay.port}, subfolder=f"/{folder.name}") as mount,
    ):
        mark = relay.mark()
        began = time.perf_counter()
        seen = mount.run("find", mount.point, timeout_s=120).count("\n")
        took_s = time.perf_counter() - began
        trips, requests = relay.round_trips(mark), relay.requests(mark)
    assert seen == 1 + folders + folders * files, f"find saw {seen} names"
    ours = f"{trips} round trips, {requests} requests, {took_s:.1f} s at {ROUND_TRIP_S * 1000:.0f} ms"
    return Result(
        f"find, {folders} folders x {files}, {_shown(options)}", ours, "cifs.ko 418", trips, "trips", ceiling=205
    )


def small_files(bench: Bench, options: Options) -> Result:
    """Open, read and close 2,000 files of 4 KiB, beside the fastest peer that is here."""
    count, size = bench.scaled(2000), 4096
    folder = bench.server.root / "small"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:05}").write_bytes(bytes(size))

    def rate(mount: Mount, shown: Path) -> float:
        arguments = (str(shown / folder.name), str(count), str(size))
        return count / float(mount.python(READ_SMALL_FILES, *arguments, timeout_s=300))

    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    notes = []
    for peer in PEERS:
        absent = peer.absent(bench.server)
        if absent is None:
            theirs[peer.name] = []
        else:
            notes.append(f"absent: {absent}")
    for _ in range(bench.runs):
        with bench.mount(options) as mount:
            ours.append(rate(mount, mount.point))
            for peer in PEERS:
                if peer.name in theirs:
                    with peer.mounted(bench.server, bench.user) as shown:
                        theirs[peer.name].append(rate(mount, shown))
    mine = statistics.median(ours)
    others = {name: statistics.median(rates) for name, rates in theirs.items()}
    best = max(others, key=lambda name: others[name], default=None)
    return Result(
        f"small files, {count} x 4 KiB, {_shown(options)}",
        f"{mine:.0f} files/s",
        ", ".join(f"{name} {value:.0f} files/s" for name, value in others.items()) or "no peer here",
        mine / others[best] if best else 0.0,
        "x",
        floor=1.0 if best else None,
        notes=notes,
    )


def _shown(options: Options) -> str:
    return f"vers={options['vers']}" if "vers" in options else "SMB 3.1.1"


ROWS: Final[dict[str, Callable[[Bench, Options], Result]]] = {
    "read": sequential_read,
    "find": find,
    "small": small_files,
}
