"""Reading real mounts of servers that share no code with Samba: each dialect and protection that each of them has.

They keep to the specifications in ways of their own, so what a client takes for granted of Samba shows here.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final
from unicodedata import normalize

import pytest

from tests.support.folders import public_folder
from tests.support.independent import IndependentServer, independent_server, missing
from tests.support.mounts import Mount, Options
from tests.support.tree import MIB, Tree, hashes, walk, write_random
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.timeout(120)]


@dataclass(frozen=True, slots=True)
class Case:
    """A server as it is started, the options of the mount, and what the mount must say that it negotiated."""

    server: str
    words: tuple[str, ...]
    options: Options
    dialect: str  # how status names it
    label: str
    signed: bool = False
    sealed: bool = False
    times: bool = True  # whether the server tells when a file was changed
    accents: bool = True  # whether the server finds what it lists under a composed letter

    def __str__(self) -> str:
        return f"{self.server}-{self.label}"


def cases() -> Iterator[Case]:
    yield Case("impacket", ("smb1",), {"vers": "1.0"}, "1.0", "1.0")
    yield Case("impacket", ("smb2",), {"vers": "2.0"}, "2.0.2", "2.0")
    yield Case("impacket", ("smb2",), {}, "2.0.2", "default")
    # node-smb-server 0.10.36 decomposes every path that it is asked for (NFKD), so that a Linux disk has none such.
    yield Case("node", (), {"vers": "1.0"}, "1.0", "1.0", accents=False)
    # scapy 2.8.0 gives every file the time of the login, less a day.
    for vers, dialect in (("2.1", "2.1"), ("3.0", "3.0"), ("3.0.2", "3.0.2"), ("3.1.1", "3.1.1")):
        options = {"vers": vers}
        yield Case("scapy", ("plain",), options, dialect, vers, times=False)
        yield Case("scapy", ("plain",), options | {"sign": True}, dialect, f"{vers}-signed", signed=True, times=False)
        if vers.startswith("3"):
            asked = options | {"seal": True}
            yield Case("scapy", ("plain",), asked, dialect, f"{vers}-sealed", sealed=True, times=False)
    yield Case("scapy", ("plain",), {}, "3.1.1", "default", times=False)
    yield Case("scapy", ("sealed",), {}, "3.1.1", "demanding", sealed=True, times=False)


NAMES: Final = (
    "plain",
    "naïve",
    "Ünïcödé",
    "[x]",
    "two  spaces",
    "per%cent & quote'",
    "UPPER.Case",
    "🐙 octopus",
    "n" * 200,
)
FOLDERS: Final = ("", "Ördner", "[a-z] 🐚", "a", "a/b", "a/b/c/d/e/f/g/h", "empty")
SIZES: Final = (0, 1, 4096, 61440, 65536, 65537)
ROUNDS: Final = 3
BIG: Final = 3 * MIB + 5

RANDOM_READS: Final = """
import os, random, sys
path, seed = sys.argv[1], int(sys.argv[2])
size, source = os.stat(path).st_size, random.Random(seed)
with open(path, "rb", buffering=0) as file:
    for _ in range(25):
        offset, length = source.randrange(size + 4096), source.choice((1, 100, 4096, 65536, 300_000))
        data = os.pread(file.fileno(), length, offset)
        assert len(data) == max(0, min(length, size - offset)), (offset, length, len(data))
        sys.stdout.write(f"{offset} {length} {data.hex()}\\n")
"""


@contextmanager
def planted(*, accents: bool) -> Iterator[Tree]:
    """Provide some 25 files in folders of strange names; without accents, those that have none."""
    with public_folder("smbfuse-interop-") as folder:
        source = random.Random(20263)
        folders = [name for name in FOLDERS if accents or name == normalize("NFKD", name)]
        names = [name for name in NAMES if accents or name == normalize("NFKD", name)]
        for name in folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
        places = [folder / name for name in folders if name != "empty"]
        for number, name in enumerate(names * ROUNDS):
            path = places[number % len(places)] / f"{name} {number}"
            write_random(path, SIZES[number % len(SIZES)], source)
            os.utime(path, (1_500_000_000 + number * 86_400,) * 2)
        big = folder / "big.bin"
        write_random(big, BIG, source)
        yield Tree(folder, len(names) * ROUNDS + 1, big)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[Case], tuple[IndependentServer, Tree]]]:
    """Provide `start(case)`: the case's server, which further cases go on to use, and what it serves."""
    running: dict[tuple[str, ...], tuple[IndependentServer, Tree]] = {}
    with ExitStack() as stack:

        def started(case: Case) -> tuple[IndependentServer, Tree]:
            if reason := missing(case.server):
                pytest.skip(reason)
            key = (case.server, *case.words)
            if key not in running:
                tree = stack.enter_context(planted(accents=case.accents))
                running[key] = (stack.enter_context(independent_server(case.server, tree.folder, *case.words)), tree)
            return running[key]

        yield started


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_everything_reads_as_it_is(
    case: Case, start: Callable[[Case], tuple[IndependentServer, Tree]], mount: Callable[..., Mount], user: User
) -> None:
    server, tree = start(case)
    point = mount(
        server.url, {"port": server.port, "credentials": str(server.credentials(user)), "timeo": 100, **case.options}
    )
    examine(point, case, tree, user)


def examine(mount: Mount, case: Case, tree: Tree, user: User) -> None:
    """Read all of the tree in every way, and compare it with what lies on the server's disk."""
    point = mount.point

    # Names, types and sizes as listed, and the same by ls, which asks for each once more.
    found = mount.run("find", point, "-printf", r"%y %P\n").splitlines()
    folders = [path for path in tree.folder.rglob("*") if path.is_dir()]
    files = list(walk(tree.folder))
    assert sorted(found) == sorted(
        ["d ", *(f"d {path.relative_to(tree.folder)}" for path in folders)]
        + [f"f {path.relative_to(tree.folder)}" for path in files]
    )
    sizes = mount.run("find", point, "-type", "f", "-printf", r"%s %P\n").splitlines()
    assert sorted(sizes) == sorted(f"{path.stat().st_size} {path.relative_to(tree.folder)}" for path in files)
    listed = mount.run("ls", "-lR", point)
    assert all(path.name in listed for path in [*files, *folders])

    # Two files are never one: every inode number stands for one name.
    inodes = mount.run("find", point, "-printf", r"%i\n").split()
    assert len(set(inodes)) == len(inodes)

    # Random reads while nothing of the big file is cached.
    for seed in ("7", "8"):
        read = mount.python(RANDOM_READS, point / tree.big.name, seed)
        data = tree.big.read_bytes()
        for line in read.splitlines():
            offset, length, content = line.split(" ")
            assert bytes.fromhex(content) == data[int(offset) : int(offset) + int(length)]

    # Every byte of every file.
    expected = tree.hashes()
    summed = mount.run("find", point, "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+")
    lines = [line.split("  ", 1) for line in summed.split("\0") if line]
    assert {os.path.relpath(name, point): digest for digest, name in lines} == expected
    assert len(expected) == tree.files

    # Copied out, with its times where there are any.
    out = user.owns_new(mount.point.parent / "copy")
    try:
        mount.run("cp", "-a", f"{point}/.", out)
        assert hashes(out) == expected
        if case.times:
            for path in files:
                assert int((out / path.relative_to(tree.folder)).stat().st_mtime) == int(path.stat().st_mtime)
    finally:
        shutil.rmtree(out)

    # What is not there, at the root, deep down, and below what is no folder.
    for name in ("nowhere", "nöwhere [x]", "a/b/nowhere", "nowhere/at all"):
        code, _, error = mount.run_all("stat", point / name)
        assert (code, "No such file or directory" in error) == (1, True), error
    below = next(path for path in files if path.parent == tree.folder)
    code, _, error = mount.run_all("cat", point / below.name / "x")
    assert (code, "Not a directory" in error) == (1, True), error

    mount.run("df", point)
    share = mount.status()["shares"][0]
    assert share["dialect"] == case.dialect
    assert bool(share["signing"]) or not case.signed
    assert bool(share["sealing"]) == case.sealed
    # scapy 2.8.0 ends the connection over a compound whose CREATE fails, unless an earlier file is still open; then it
    # goes on with that, and ends the connection when we close that ourselves. After either there are no more compounds.
    assert share["connects"] <= (2 if case.server == "scapy" else 1)
