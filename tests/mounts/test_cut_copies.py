"""Programs that copy, clone and keep databases while the connection is taken from them: they do not notice."""

import random
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.mounts import Mount, Options
from tests.support.samba import SambaServer
from tests.support.striking import Strikes, cut_every, silence_every, strike_at
from tests.support.tree import MIB, sha256, write_random
from tests.support.users import ROOT, User
from tests.support.workplace import Workplace, needs

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(300)]

DIALECTS: Final = ["1.0", "2.1", "3.1.1"]
TRIED: Final = ["1.0", pytest.param("2.1", marks=pytest.mark.soak), "3.1.1"]
WAYS: Final = ["to the share", "from the share"]
ONE_WAY: Final = [
    pytest.param(vers, way, marks=[] if (vers, way) in {("1.0", WAYS[0]), ("3.1.1", WAYS[1])} else [pytest.mark.soak])
    for vers in DIALECTS
    for way in WAYS
]
KEEP: Final = 128  # bytes of each packet in the relay's record: headers, not hundreds of MiB
# A silence is noticed after a third of `timeo` (docs/connections.md): here 2 s each.
SILENCES: Final = {"timeo": 6, "echo_interval": 2}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is copied, and after how many bytes each connection ends."""

    whole: int
    piece: int
    patience_s: float  # of the test, on however slow a machine

    @property
    def strikes(self) -> int:
        """How many times it must strike at least, whatever is sent once more after a loss."""
        return self.whole // self.piece - 1


SIZES: Final = [
    pytest.param(Size(32 * MIB, 4 * MIB, 120), id="32 MiB"),
    pytest.param(Size(256 * MIB, 8 * MIB, 1000), id="256 MiB", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


@dataclass(frozen=True, slots=True)
class Copying:
    """One copy that is about to be made, and how far it has come."""

    source: Path  # as cp is given it
    target: Path
    original: Path  # where both are on this machine's disks
    copy: Path
    to_server: bool

    def progress(self) -> int:
        """Return how many bytes of it are on the other disk."""
        return self.copy.stat().st_size if self.copy.exists() else 0


@pytest.fixture(params=WAYS)
def direction(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def copying(mounted: Mount, on_server: Path, user: User, size: int, direction: str) -> Copying:
    """Provide a file of noise on one side and a place for it on the other."""
    local = user.owns_new(mounted.point.parent / "local")
    if direction == "to the share":
        made = Copying(local / "noise", mounted.point / "copy", local / "noise", on_server / "copy", True)
    else:
        made = Copying(mounted.point / "noise", local / "copy", on_server / "noise", local / "copy", False)
    write_random(made.original, size, random.Random(4))
    made.original.chmod(0o644)
    return made


def copy_through(mounted: Mount, work: Copying, patience_s: float, struck: AbstractContextManager[Strikes]) -> int:
    """Copy while it strikes, compare, and return how often it has struck."""
    with struck as strikes:
        code, _, error = mounted.run_all("cp", work.source, work.target, timeout_s=patience_s)
    assert (code, error) == (0, ""), mounted.log_text()
    assert sha256(work.copy) == sha256(work.original)
    return strikes.count


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vers", TRIED)
def test_a_copy_goes_on_over_connections_that_are_cut(
    samba: SambaServer,
    share_folder: Path,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    vers: str,
    direction: str,
    size: Size,
) -> None:
    user.owns(share_folder)
    relay = relay_to(samba.port, keep=KEEP)
    mounted = mount(samba, {"vers": vers, "port": relay.port}, subfolder=f"/{share_folder.name}")
    work = copying(mounted, share_folder, user, size.whole, direction)
    cutting = cut_every(relay, size.piece, to_server=work.to_server)
    assert copy_through(mounted, work, size.patience_s, cutting) >= size.strikes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vers, direction", ONE_WAY, indirect=["direction"])
def test_a_copy_goes_on_over_connections_that_fall_silent(
    samba: SambaServer,
    share_folder: Path,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    vers: str,
    direction: str,
    size: Size,
) -> None:
    user.owns(share_folder)
    relay = relay_to(samba.port, keep=KEEP, rate=40e6)  # so that each silence falls into the copy
    # Over SMB1 a server that knows nothing of our loss asks for its oplock back where nobody listens: Samba for 35 s.
    options: Options = {"vers": vers, "port": relay.port, "nolease": vers == "1.0", **SILENCES}
    mounted = mount(samba, options, subfolder=f"/{share_folder.name}")
    work = copying(mounted, share_folder, user, size.whole, direction)
    silences = 3 if size.piece == 4 * MIB else size.strikes  # each takes some seconds
    falling_silent = silence_every(relay, work.progress, size.whole // (silences + 2), silences)
    assert copy_through(mounted, work, size.patience_s, falling_silent) >= silences * 2 // 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("vers, direction", ONE_WAY, indirect=["direction"])
def test_a_copy_goes_on_while_the_server_is_restarted(
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    vers: str,
    direction: str,
    size: Size,
) -> None:
    server = start_samba()
    user.owns(server.root)
    relay = relay_to(server.port, keep=KEEP, rate=40e6)
    mounted = mount(server, {"vers": vers, "port": relay.port})
    work = copying(mounted, server.root, user, size.whole, direction)
    marks = [size.whole * (number + 1) // 5 for number in range(3)]
    assert copy_through(mounted, work, size.patience_s, strike_at(work.progress, marks, server.restart)) == 3


# -- programs that make, rename and remove too


GIT: Final = """
git config --global user.name Somebody
git config --global user.email somebody@example.org
git config --global init.defaultBranch main
cp -r "$1" "$HOME/origin"
cd "$HOME/origin"
git init -q; git add .; git commit -q -m "first"
cd "$0"
git clone -q "$HOME/origin" clone
git -C clone fsck --strict --no-progress
git -C clone status --porcelain
git -C clone rev-parse HEAD
git -C "$HOME/origin" rev-parse HEAD
"""

WRITER: Final = """
import sqlite3, sys
mode, rounds = sys.argv[1], int(sys.argv[2])
database = sqlite3.connect("data.db", timeout=60)
assert database.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
database.execute("create table t (number int primary key, text text)")
for number in range(rounds):
    with database:
        database.executemany("insert into t values (?, ?)", [(10 * number + n, "x" * 900) for n in range(10)])
        database.execute("update t set text = text || 'y' where number % 7 = ?", (number % 7,))
print(database.execute("pragma integrity_check").fetchone()[0])
print(*database.execute("select count(*), sum(length(text)) from t").fetchone())
database.close()
"""


def rows_written(rounds: int) -> tuple[int, int]:
    """Return what the writer's last question is answered by a database that lost nothing."""
    texts: dict[int, int] = {}
    for number in range(rounds):
        texts.update(dict.fromkeys(range(10 * number, 10 * number + 10), 900))
        for key in texts:
            texts[key] += key % 7 == number % 7
    return len(texts), sum(texts.values())


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a program does, and how often it is disturbed."""

    copies: int  # of the tree that is cloned
    rounds: int  # of the database's writer
    piece: int  # bytes to the server, after which each connection is cut
    cuts: int  # at least
    messages: int  # packets both ways, after which the others strike
    strikes: int
    patience_s: float


REQUEST: Final = 131072  # of a write: what leaves at once on a new connection, two of these, is less than it bears
SOME: Final = Amount(1, 25, 300_000, 2, 100, 2, 120)
MUCH: Final = Amount(3, 100, 400_000, 5, 120, 6, 1000)
PROGRAMS: Final = ["git", "delete", "wal"]
IN_SHORT: Final = [
    ("git", "1.0", "cut"),
    ("git", "2.1", "restarted"),
    ("git", "3.1.1", "silent"),
    ("delete", "1.0", "restarted"),
    ("delete", "1.0", "silent"),
    ("delete", "3.1.1", "cut"),
    ("wal", "2.1", "silent"),
    ("wal", "3.1.1", "cut"),
]
WORK: Final = [
    pytest.param(program, vers, harm, SOME, id=f"{program}-{vers}-{harm}") for program, vers, harm in IN_SHORT
] + [
    pytest.param(
        program,
        vers,
        harm,
        MUCH,
        id=f"{program}-{vers}-{harm}-much",
        marks=[pytest.mark.soak, pytest.mark.timeout(1200)],
    )
    for program in PROGRAMS
    for vers in DIALECTS
    for harm in ("cut", "silent", "restarted")
]


def clone(work: Workplace, amount: Amount) -> None:
    needs("git")
    sources = work.local / "sources"
    for number in range(amount.copies):
        shutil.copytree(ROOT / "smbfuse", sources / str(number), ignore=shutil.ignore_patterns("__pycache__"))
        (sources / str(number) / "number").write_text(str(number))
    said = work.sh(GIT, sources, timeout_s=amount.patience_s).splitlines()
    assert len(said) == 2, said  # fsck and status have nothing to say
    assert said[0] == said[1]


def fill(work: Workplace, amount: Amount, mode: str) -> None:
    said = work.python(WRITER, mode, str(amount.rounds), timeout_s=amount.patience_s)
    assert said.split() == ["ok", *map(str, rows_written(amount.rounds))]


@pytest.mark.parametrize("program, vers, harm, amount", WORK)
def test_programs_do_not_notice(
    start_samba: Callable[..., SambaServer],
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    program: str,
    vers: str,
    harm: str,
    amount: Amount,
) -> None:
    server = start_samba()
    user.owns(server.root)
    relay = relay_to(server.port, keep=KEEP)
    options: Options = {"vers": vers, "port": relay.port, "wsize": REQUEST, **SILENCES}
    mounted = mount(server, {**options, "nolease": harm == "silent" and vers == "1.0"})
    work = Workplace(mounted.point, user.owns_new(mounted.point.parent / "local"), server.root, mounted.run)
    marks = [amount.messages * (number + 1) for number in range(amount.strikes)]
    disturbing = {
        "cut": cut_every(relay, amount.piece, to_server=True),
        "silent": silence_every(relay, relay.mark, amount.messages, amount.strikes),
        "restarted": strike_at(relay.mark, marks, server.restart),
    }[harm]
    with disturbing as strikes:
        if program == "git":
            clone(work, amount)
        else:
            fill(work, amount, program)
    assert strikes.count >= (amount.cuts if harm == "cut" else amount.strikes)
