"""Workloads of bytes: large files read and written in sequence, one large file read at random places, small files."""

from pathlib import Path
from typing import Final

from tests.bench.clients import Failed, python, run_as, transfer_mib_s
from tests.bench.peers import Peer
from tests.bench.programs import CREATE, RANDOM, READ_SMALL, TIMED
from tests.bench.workload import MIB, Bar, Figures, Metric, Stage, Workload

LARGE: Final = "sequential"
SMALL: Final = "small"
SMALL_SIZE: Final = 4096
LONGEST_S: Final = 20.0  # some clients read ten files a second at 10 ms
SIGNED: Final = {"client signing": "required"}
SEALED: Final = {"client smb encrypt": "required"}


def large_size(stage: Stage) -> int:
    """Return the bytes of the large file."""
    return stage.scaled(1024) * MIB


def make_large(stage: Stage) -> None:
    """Put the large file on the share: no zeros, which some filesystems and clients take a short way with."""
    path = stage.server.root / LARGE
    if not path.exists():
        noise = bytes(range(256)) * (MIB // 256)
        with path.open("wb") as file:
            for _ in range(large_size(stage) // MIB):
                file.write(noise)


def make_small(stage: Stage) -> None:
    """Put 2,000 files of 4 KiB into a folder."""
    folder = stage.server.root / SMALL
    folder.mkdir(exist_ok=True)
    for number in range(small_count(stage)):
        (folder / f"{number:05}").write_bytes(bytes(SMALL_SIZE))


def small_count(stage: Stage) -> int:
    """Return how many small files there are."""
    return stage.scaled(2000)


def _timed(stage: Stage, *command: str | Path) -> float:
    return run_as(stage.user, "/usr/bin/python3", "-c", TIMED, *command)["seconds"]


def read_large(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Read the large file by dd, then on a fresh mount by cp."""
    mib = large_size(stage) / MIB
    with stage.mounted(client) as shown:
        dd = mib / _timed(stage, "dd", f"if={shown / LARGE}", "of=/dev/null", "bs=1M", "status=none")
    with stage.mounted(client) as shown:
        cp = mib / _timed(stage, "cp", shown / LARGE, "/dev/null")
    return {"dd": dd, "cp": cp}


def write_large(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Write a new file by dd, fsync included."""
    mib = stage.scaled(512)
    name = f"written-{next(stage.numbers)}"
    with stage.mounted(client) as shown:
        output = f"of={shown / name}"
        took_s = _timed(stage, "dd", "if=/dev/zero", output, "bs=1M", f"count={mib}", "conv=fsync", "status=none")
    path = stage.server.root / name
    there = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    # The memory's file is nowhere; anybody else's has to be on the server.
    if client.durable and there != mib * MIB:
        raise Failed(f"{there} of {mib * MIB} bytes are on the server")
    return {"dd": mib / took_s}


def read_small(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Open, read and close small files one after the other, as many as can be in a while."""
    with stage.mounted(client, workload.round_trip_s) as shown:
        return python(stage.user, READ_SMALL, shown / SMALL, small_count(stage), SMALL_SIZE, LONGEST_S)


def create_and_delete(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Create small files in a new folder, then delete them."""
    with stage.mounted(client) as shown:
        return python(stage.user, CREATE, shown / f"new-{next(stage.numbers)}", stage.scaled(500), 1000)


def read_at_random(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Read 4 KiB at a time at places of the large file that are in no order, by one thread and by 16."""
    figures = {}
    for threads in (1, 16):
        with stage.mounted(client) as shown:
            said = python(stage.user, RANDOM, shown / LARGE, large_size(stage), stage.scaled(4000), threads)
        figures[f"threads-{threads}"] = said["reads"]
    return figures


def _get(settings: dict[str, str], dialect: str = "SMB3") -> "Pace":
    return Pace(f"get {LARGE} /dev/null", settings, dialect)


class Pace:
    """What smbclient makes of the same transfer: as fast as the server gives or takes."""

    def __init__(self, command: str, settings: dict[str, str], dialect: str) -> None:
        self._command = command
        self._settings = settings
        self._dialect = dialect

    def __call__(self, stage: Stage) -> Figures:
        """Get the large file; every figure of the workload is compared with it."""
        rate = transfer_mib_s(stage.server, self._command, self._settings, dialect=self._dialect)
        return {"dd": rate, "cp": rate}


def put(stage: Stage) -> Figures:
    """Put a file of as many bytes as are written elsewhere."""
    source, name = stage.local / "put", f"put-{next(stage.numbers)}"
    if not source.exists():
        source.write_bytes(bytes(stage.scaled(512) * MIB))
    try:
        return {"dd": transfer_mib_s(stage.server, f"put {source} {name}", {})}
    finally:
        (stage.server.root / name).unlink(missing_ok=True)


READ_METRICS: Final = (
    Metric("dd", "MiB/s", "dd bs=1M"),
    Metric("cp", "MiB/s", "cp to /dev/null"),
)


def _read_bars(factor: float) -> tuple[Bar, ...]:
    return tuple(Bar(metric.name, factor, "smbclient") for metric in READ_METRICS)


TRANSFERS: Final = (
    Workload(
        "read-1g",
        "sequential read of 1 GiB",
        READ_METRICS,
        read_large,
        make_large,
        bars=(*_read_bars(0.5), Bar("dd", 2.5, "peers"), Bar("cp", 2.5, "peers")),
        memory_shows=(LARGE,),
        pace=_get({}),
    ),
    Workload(
        "read-signed",
        "the same, signed (AES-GMAC)",
        READ_METRICS,
        read_large,
        make_large,
        bars=_read_bars(0.6),
        with_peers=False,
        pace=_get(SIGNED),
        options={"sign": True},
    ),
    Workload(
        "read-sealed",
        "the same, sealed (AES-GCM)",
        READ_METRICS,
        read_large,
        make_large,
        bars=_read_bars(0.6),
        with_peers=False,
        pace=_get(SEALED),
        options={"seal": True},
    ),
    Workload(
        "read-smb1",
        "the same over SMB1",
        READ_METRICS,
        read_large,
        make_large,
        bars=_read_bars(0.5),
        with_peers=False,
        pace=_get({}, "NT1"),
        options={"vers": "1.0"},
    ),
    Workload(
        "write",
        "sequential write of 512 MiB and fsync",
        (Metric("dd", "MiB/s", "dd bs=1M conv=fsync"),),
        write_large,
        bars=(Bar("dd", 0.4, "smbclient"), Bar("dd", 2.0, "durable peers")),
        memory_shows=(),
        pace=put,
    ),
    Workload(
        "small-files",
        "2,000 files of 4 KiB: open, read, close",
        (Metric("files", "files/s", "read one after the other"),),
        read_small,
        make_small,
        bars=(Bar("files", 1.8, "peers"),),
        memory_shows=(SMALL,),
    ),
    Workload(
        "small-files-10ms",
        "the same at 10 ms round trip",
        (Metric("files", "files/s", "read one after the other"),),
        read_small,
        make_small,
        bars=(Bar("files", 4.0, "peers"),),
        round_trip_s=0.01,
    ),
    Workload(
        "create",
        "500 files of 1,000 B in a new folder",
        (Metric("created", "files/s", "create, write, close"), Metric("deleted", "files/s", "unlink")),
        create_and_delete,
        bars=(Bar("created", 2.5, "durable peers"), Bar("deleted", 1.2, "durable peers")),
        memory_shows=(),
    ),
    Workload(
        "random",
        "random reads of 4 KiB in a file of 1 GiB",
        (Metric("threads-1", "reads/s", "1 thread"), Metric("threads-16", "reads/s", "16 threads")),
        read_at_random,
        make_large,
        bars=(Bar("threads-1", 1.2, "peers"), Bar("threads-16", 3.0, "peers")),
        memory_shows=(LARGE,),
    ),
)
