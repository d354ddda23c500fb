"""Workloads of names: a tree walked, a repository worked with, large folders, and what smbfuse itself costs."""

import random
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Final

from tests.bench.clients import Failed, Ours, python, run_as, wall_s
from tests.bench.peers import Peer
from tests.bench.programs import FAIR, LIST, TIMED, WALK
from tests.bench.trips import give_to
from tests.bench.workload import Bar, Figures, Metric, Stage, Workload
from tests.support.folders import public_folder
from tests.support.mounts import mount_options, target

TREE: Final = "tree"
FOLDERS: Final = 100
FILES: Final = 50
FAIR_FOLDERS: Final = 100
SPARSE: Final = "sparse"
CACHE_MIB: Final = 256  # cache_size, by default
OVERHEAD_MIB: Final = 128


def make_tree(stage: Stage) -> None:
    """Put 5,000 files into 100 folders."""
    for outer in range(FOLDERS):
        folder = stage.server.root / TREE / f"{outer:03}"
        folder.mkdir(parents=True, exist_ok=True)
        for inner in range(FILES):
            (folder / f"file {inner:02}").touch()


def walk(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Walk the tree and stat every file, twice at once."""
    with stage.mounted(client) as shown:
        return python(stage.user, WALK, shown / TREE, FOLDERS * FILES)


# -- a repository

REPOSITORY: Final = "repository"
GIT: Final = ("git", "-c", "safe.directory=*")


def make_repository(stage: Stage) -> None:
    """Make a repository of 5,000 files and a tar archive of the same on this machine."""
    if (stage.local / REPOSITORY).exists():
        return
    source = random.Random(5)
    words = [bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(500)]
    with public_folder("smbfuse-repository-") as folder:
        for number in range(stage.scaled(5000)):
            path = folder / f"part {number // FILES:03}" / f"file {number % FILES:02}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b" ".join(source.choices(words, k=source.randint(20, 600))) + b"\n")
        with tarfile.open(stage.local / "archive.tar", "w") as archive:
            archive.add(folder, "archive")
        for command in (
            ["init", "--quiet"],
            ["add", "."],
            ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "--message=all of it"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, timeout=300)
        clone = ["git", "clone", "--quiet", "--bare", str(folder), str(stage.local / REPOSITORY)]
        subprocess.run(clone, check=True, capture_output=True, timeout=300)
    give_to(stage.user, stage.local)


def work_with_repository(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Clone it onto the mount, then on fresh mounts: its status, a search, an archive unpacked, its size."""
    number = next(stage.numbers)
    clone, unpacked = f"clone-{number}", f"unpacked-{number}"
    figures = {}

    failures = []

    def seconds(name: str, *command: str | Path) -> None:
        try:
            figures[name] = run_as(stage.user, "/usr/bin/python3", "-c", TIMED, *command, timeout_s=1200)["seconds"]
        except Failed as error:
            failures.append(f"{name}: {error}")

    with stage.mounted(client) as shown:
        seconds("clone", *GIT, "clone", "--quiet", "--no-local", stage.local / REPOSITORY, shown / clone)
    if "clone" in figures:  # else there is nothing to look at
        with stage.mounted(client) as shown:
            seconds("status", *GIT, "-C", shown / clone, "status", "--short")
        with stage.mounted(client) as shown:
            seconds("rg", "rg", "--count-matches", "--no-messages", "ab", shown / clone)
    with stage.mounted(client) as shown:
        seconds("tar", "sh", "-c", 'mkdir "$1" && tar xf "$0" -C "$1"', stage.local / "archive.tar", shown / unpacked)
    if "tar" in figures:
        with stage.mounted(client) as shown:
            seconds("du", "du", "-s", shown / unpacked)
    if failures:
        raise Failed("; ".join(failures), figures)
    return figures


# -- smbfuse alone


def make_listed(stage: Stage) -> None:
    """Put a folder of 1,000 files and one of 100 times as many there."""
    for name, count in (("thousand", 1000), ("many", stage.scaled(100_000))):
        folder = stage.server.root / name
        folder.mkdir(exist_ok=True)
        for number in range(count):
            (folder / f"file {number:06}").touch()


def list_many(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Compare what an entry costs in a large folder and in a small one; time the first ones at 10 ms."""
    each = {}
    for name, count in (("thousand", 1000), ("many", stage.scaled(100_000))):
        with stage.mounted(client) as shown:
            said = python(stage.user, LIST, shown / name, count)
        each[name] = said["seconds"] / count * 1e6
    with stage.mounted(client, 0.01) as shown:
        first_s = python(stage.user, LIST, shown / "many", stage.scaled(100_000))["first"]
    return {**each, "ratio": each["many"] / each["thousand"], "first": first_s}


def make_sparse(stage: Stage) -> None:
    """Put a file there that is long and holds nothing, and a tree of 200,000 files."""
    with (stage.server.root / SPARSE).open("wb") as file:
        file.truncate(64 << 30)


def make_memory(stage: Stage) -> None:
    """Put there what is to be too much to keep in memory."""
    make_sparse(stage)
    for outer in range(stage.scaled(2000)):
        folder = stage.server.root / "wide" / f"{outer:04}"
        folder.mkdir(parents=True, exist_ok=True)
        for inner in range(100):
            (folder / f"file {inner:02}").touch()


def resident(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Return the memory of smbfuse: after mounting, at most in a long copy, and after a walk of 200,000 files."""
    assert isinstance(client, Ours)
    figures = {}
    with client.mount(stage.server, stage.user) as mount:
        time.sleep(1.0)
        figures["idle"] = _status_mib(mount.process.pid, "VmRSS")
        count = f"count={5120 if stage.full else stage.scaled(1024)}"
        source = f"if={mount.point / SPARSE}"
        run_as(stage.user, "/usr/bin/python3", "-c", TIMED, "dd", source, "of=/dev/null", "bs=1M", count)
        figures["copy"] = _status_mib(mount.process.pid, "VmHWM")
    with client.mount(stage.server, stage.user) as mount:
        python(stage.user, WALK, mount.point / "wide", stage.scaled(2000) * 100)
        figures["walk"] = _status_mib(mount.process.pid, "VmHWM")
    return figures


def _status_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Failed(f"process {pid} has no {field}")


def start(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Time `smbfuse` to a listed root, beside smbclient's listing and the start of what Python must import."""
    assert isinstance(client, Ours)
    installation = client.installation
    url, options = target(stage.server, client.options)
    with public_folder("smbfuse-start-") as folder:
        point = stage.user.owns_new(folder / "mount")
        words = ["sh", "-c", '"$0" "$1" "$2" -o "$3" && ls "$2"']
        mount = [*words, str(installation.program), url, str(point), mount_options(options)]
        try:
            ours = wall_s(mount, installation.environment, stage.user)
        finally:
            subprocess.run(
                ["fusermount3", "-u", str(point)],
                capture_output=True,
                timeout=20,
                check=False,
                **stage.user.run_options(),
            )
    began = time.perf_counter()
    stage.server.smbclient("ls")
    theirs = time.perf_counter() - began
    imports = [installation.interpreter, "-c", "import trio, pyfuse3, cryptography"]
    python_s = wall_s(imports, installation.environment, stage.user)
    return {
        "seconds": ours,
        "smbclient": theirs,
        "imports": python_s,
        "more": ours - theirs,
        "ratio": ours / python_s,
    }


def make_fair(stage: Stage) -> None:
    """Put folders there that are listed once each, and something to copy meanwhile."""
    make_sparse(stage)
    for outer in range(2 * FAIR_FOLDERS):
        folder = stage.server.root / "fair" / f"{outer:03}"
        folder.mkdir(parents=True, exist_ok=True)
        for inner in range(20):
            (folder / f"file {inner:02}").touch()


def fair(stage: Stage, client: Peer, workload: Workload) -> Figures:
    """Time `ls` of small folders, idle and while a large file is copied: the 95th percentile."""
    with stage.mounted(client, workload.round_trip_s) as shown:
        said = python(stage.user, FAIR, shown / "fair", shown / SPARSE, FAIR_FOLDERS)
    return {"idle": said["idle"] * 1000, "busy": said["busy"] * 1000, "ratio": said["busy"] / said["idle"]}


FAIR_METRICS: Final = (
    Metric("idle", "ms", "p95 with nothing else", lower_is_better=True),
    Metric("busy", "ms", "p95 during the copy", lower_is_better=True),
    Metric("ratio", "x", "the one over the other", lower_is_better=True),
)
RESIDENT_METRICS: Final = (
    Metric("idle", "MiB", "after mounting", lower_is_better=True),
    Metric("copy", "MiB", "at most in a copy of 1 GiB (5 GiB with --full)", lower_is_better=True),
    Metric("walk", "MiB", "at most in a walk of 200,000 files", lower_is_better=True),
)
MOST_RESIDENT_MIB: Final = CACHE_MIB + OVERHEAD_MIB

TREES: Final = (
    Workload(
        "walk",
        "walk and lstat of 5,000 files in 100 folders",
        (Metric("cold", "files/s", "cold"), Metric("again", "files/s", "the same again at once")),
        walk,
        make_tree,
        bars=(Bar("cold", 3.0, "peers"), Bar("again", 1.0, "rclone")),
        memory_shows=(TREE,),
    ),
    Workload(
        "git",
        "a repository of 5,000 files",
        tuple(
            Metric(name, "s", about, lower_is_better=True)
            for name, about in (
                ("clone", "git clone onto the mount"),
                ("status", "git status, cold"),
                ("rg", "rg over it, cold"),
                ("tar", "tar x of as many files"),
                ("du", "du over those, cold"),
            )
        ),
        work_with_repository,
        make_repository,
        bars=tuple(Bar(name, 2.0, "peers") for name in ("clone", "status", "rg", "tar", "du")),
    ),
    Workload(
        "ls",
        "ls -l of 100,000 entries and of 1,000",
        (
            Metric("thousand", "µs", "an entry of 1,000", lower_is_better=True),
            Metric("many", "µs", "an entry of 100,000", lower_is_better=True),
            Metric("ratio", "x", "the one over the other", lower_is_better=True),
            Metric("first", "s", "to the first entries of 100,000 at 10 ms", lower_is_better=True),
        ),
        list_many,
        make_listed,
        bars=(Bar("ratio", at_most=1.3), Bar("first", at_most=1.0)),
        with_peers=False,
    ),
    Workload(
        "memory",
        "memory of smbfuse (RSS)",
        RESIDENT_METRICS,
        resident,
        make_memory,
        bars=(Bar("idle", at_most=60), Bar("copy", at_most=MOST_RESIDENT_MIB), Bar("walk", at_most=MOST_RESIDENT_MIB)),
        with_peers=False,
    ),
    Workload(
        "start",
        "from `smbfuse` to a listed root",
        (
            Metric("seconds", "s", "smbfuse and ls", lower_is_better=True),
            Metric("smbclient", "s", "smbclient -c ls", lower_is_better=True),
            Metric("imports", "s", 'python3 -c "import trio, pyfuse3, cryptography"', lower_is_better=True),
            Metric("more", "s", "more than smbclient", lower_is_better=True),
            Metric("ratio", "x", "over the imports", lower_is_better=True),
        ),
        start,
        bars=(Bar("more", at_most=0.6),),
        with_peers=False,
    ),
    Workload(
        "fair",
        "ls during a large copy",
        FAIR_METRICS,
        fair,
        make_fair,
        bars=(Bar("busy", at_most=100),),
        with_peers=False,
    ),
    Workload(
        "fair-10ms",
        "the same at 10 ms round trip",
        FAIR_METRICS,
        fair,
        make_fair,
        bars=(Bar("ratio", at_most=3),),
        with_peers=False,
        round_trip_s=0.01,
    ),
)
