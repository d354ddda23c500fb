"""Reading through a real mount: every dialect and protection, with the tools that people use.

Each case walks, hashes, copies and reads at random, and must see exactly what lies on the server's disk.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer
from tests.support.tree import Tree, hashes, walk
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Case:
    """A dialect with its protection, and what the mount must say that it negotiated."""

    name: str
    options: Options
    dialect: str  # how status names it
    signed: bool = False
    sealed: bool = False
    netbios: bool = False  # over a session request, as on port 139

    @property
    def unix(self) -> bool:
        """Whether the CIFS UNIX extensions are in use: SMB1 has them unless they are switched off."""
        return self.dialect == "1.0" and "nounix" not in self.options

    def __str__(self) -> str:
        return self.name


def smb1_cases() -> Iterator[Case]:
    for security in ("extsec", "noextsec"):
        for unix in ("unix", "nounix"):
            yield Case(f"1.0-{security}-{unix}", {"vers": "1.0", security: True, unix: True}, "1.0")
    yield Case("1.0-signed", {"vers": "1.0", "sign": True}, "1.0", signed=True)
    yield Case("1.0-netbios", {"vers": "1.0"}, "1.0", netbios=True)


def smb2_cases() -> Iterator[Case]:
    for vers, dialect in (("2.0", "2.0.2"), ("2.1", "2.1"), ("3.0", "3.0"), ("3.0.2", "3.0.2")):
        yield Case(f"{vers}-plain", {"vers": vers}, dialect)
        yield Case(f"{vers}-signed", {"vers": vers, "sign": True}, dialect, signed=True)
        if vers.startswith("3"):
            yield Case(f"{vers}-sealed", {"vers": vers, "seal": True}, dialect, sealed=True)
    yield Case("3.1.1-plain", {"vers": "3.1.1"}, "3.1.1")
    yield Case("3.1.1-signed", {"vers": "3.1.1", "sign": True}, "3.1.1", signed=True)
    yield Case("3.1.1-sealed", {"vers": "3.1.1", "seal": True}, "3.1.1", sealed=True)
    yield Case("default", {}, "3.1.1")
    yield Case("2.1-netbios", {"vers": "2.1"}, "2.1", netbios=True)
    yield Case("3.1.1-netbios", {"vers": "3.1.1"}, "3.1.1", netbios=True)


CASES: Final = [*smb1_cases(), *smb2_cases()]

RANDOM_READS: Final = """
import hashlib, os, random, sys
path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
size, source, seen = os.stat(path).st_size, random.Random(seed), hashlib.sha256()
with open(path, "rb", buffering=0) as file:
    for _ in range(count):
        offset, length = source.randrange(size + 4096), source.choice((1, 100, 4096, 65536, 300_000))
        data = os.pread(file.fileno(), length, offset)
        assert len(data) == max(0, min(length, size - offset)), (offset, length, len(data))
        seen.update(data)
print(seen.hexdigest())
"""


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def mounted(
    case: Case, samba: SambaServer, signing_samba: SambaServer, mount: Callable[..., Mount]
) -> Callable[[Tree], Mount]:
    """Provide `mounted(tree)`: mount a tree's folder as the case wants it."""

    def make(tree: Tree) -> Mount:
        server = signing_samba if case.signed else samba
        options = dict(case.options)
        if case.netbios:
            options |= {"port": server.netbios_port, "nbsessinit": True}
        return mount(server, options, subfolder=f"/{tree.folder.name}")

    return make


def local(*command: str | Path, folder: Path) -> str:
    environment = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    return ran.stdout.decode(errors="surrogateescape")


def examine(mount: Mount, tree: Tree, user: User, patience_s: float) -> None:
    """Read all of a tree in every way, and compare it with what lies on the server's disk."""
    point = mount.point

    # Listings, before anything is cached: types, sizes, times in 100 ns steps, names.
    form = ["-printf", r"%y %s %T@ %P\n"]
    seen = mount.run("find", point, "-type", "f", *form)
    assert sorted(seen.splitlines()) == sorted(local("find", ".", "-type", "f", *form, folder=tree.folder).splitlines())
    folders = ["-type", "d", "-printf", r"%y %P\n"]
    assert sorted(mount.run("find", point, *folders).splitlines()) == sorted(
        local("find", ".", *folders, folder=tree.folder).splitlines()
    )
    listed = mount.run("ls", "-lR", point).splitlines()
    assert len(listed) == len(local("ls", "-lR", ".", folder=tree.folder).splitlines())

    # Random reads while nothing of the big file is cached.
    arguments = ["-c", RANDOM_READS, tree.big.name, "7", "200"]
    read = mount.run("/usr/bin/python3", "-c", RANDOM_READS, point / tree.big.name, "7", "200")
    assert read == local("/usr/bin/python3", *arguments, folder=tree.folder)

    # Two readers of one file at once.
    with mount.start("sha256sum", point / tree.big.name) as one, mount.start("sha256sum", point / tree.big.name) as two:
        sums = [process.communicate(timeout=patience_s)[0].split()[0].decode() for process in (one, two)]
    expected = tree.hashes()
    assert sums == [expected[tree.big.name]] * 2

    # Every byte of every file.
    summed = mount.run("find", point, "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+", timeout_s=patience_s)
    lines = [line.split("  ", 1) for line in summed.split("\0") if line]
    assert {os.path.relpath(name, point): digest for digest, name in lines} == expected
    assert len(expected) == tree.files

    # Copied out with its times.
    out = point.parent / "copy"
    user.owns_new(out)
    try:
        mount.run("cp", "-a", f"{point}/.", out, timeout_s=patience_s)
        assert hashes(out) == expected
        for path in walk(tree.folder):
            copied = out / path.relative_to(tree.folder)
            assert copied.stat().st_mtime_ns // 100 == path.stat().st_mtime_ns // 100
    finally:
        shutil.rmtree(out)

    # Room on the volume, as the server has it.
    total, available = map(int, mount.run("df", "--block-size=1", "--output=size,avail", point).split()[-2:])
    space = os.statvfs(tree.folder)
    assert total == space.f_blocks * space.f_frsize
    assert available == pytest.approx(space.f_bavail * space.f_frsize, rel=0.05)


def confirm(case: Case, mount: Mount) -> None:
    """Compare what was negotiated with what the case is about."""
    share = mount.status()["shares"][0]
    assert share["dialect"] == case.dialect
    assert bool(share["signing"]) or not case.signed
    assert bool(share["sealing"]) == case.sealed


def test_everything_reads_as_it_is(case: Case, mounted: Callable[[Tree], Mount], tree: Tree, user: User) -> None:
    mount = mounted(tree)
    examine(mount, tree, user, patience_s=120)
    confirm(case, mount)
    # With UNIX extensions owners are the server's own, without them all is the mounting user's.
    owner = "root" if case.unix and os.geteuid() == 0 else user.name
    assert set(mount.run("find", mount.point, "-printf", r"%u\n").split()) == {owner}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_everything_reads_at_full_size(
    case: Case, mounted: Callable[[Tree], Mount], large_tree: Tree, user: User
) -> None:
    mount = mounted(large_tree)
    examine(mount, large_tree, user, patience_s=1800)
    confirm(case, mount)
