"""Two mounts, smbclient and a stranger on one share: what one does the others see, when docs/coherence.md says so.

Where a grant is to make something known at once, the time limits are set to half a minute, so that they cannot; and the
server is asked what it has granted.
"""

import hashlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import Options
from tests.support.pair import EXCLUSIVE, LONG_S, SHARED, SOON_S, Pair, content, names, open_to_write, save, soon, write
from tests.support.samba import SambaServer, wait_for
from tests.support.samba_programs import newer_samba
from tests.support.stranger import BATCH, READ_DATA, WRITE_DATA, Stranger, stranger_on

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SLACK_S: Final = 2.0  # beyond a time limit, for the looking
PATIENCE_S: Final = 35.0  # how long Samba waits for the answer to a break

GRANTING: Final[dict[str, Options]] = {
    "1.0": {"vers": "1.0"},
    "1.0 nounix": {"vers": "1.0", "nounix": True},
    "2.0": {"vers": "2.0"},
    "2.1": {"vers": "2.1"},
    "3.1.1": {"vers": "3.1.1"},
}
THREE: Final = ["1.0", "2.0", "3.1.1"]  # each with grants of another kind


@pytest.fixture(params=list(GRANTING))
def pair(request: pytest.FixtureRequest, pair_of: Callable[..., Pair]) -> Pair:
    """Provide two mounts with each dialect that grants something, and time limits that help nobody."""
    return pair_of({**GRANTING[request.param], "actimeo": LONG_S})


# -- data


def test_what_waits_under_an_exclusive_grant_is_there_for_who_opens_the_file(pair: Pair) -> None:
    data = bytes(range(256)) * 1000
    open_to_write(pair.first)
    write(pair.first, data)
    assert set(pair.granted("f")) <= EXCLUSIVE
    assert content(pair.second) == data
    assert not set(pair.granted("f")) & EXCLUSIVE


def test_who_has_looked_at_the_size_before_reads_to_the_end_all_the_same(pair: Pair) -> None:
    data = b"z" * 50_000
    for number in range(10):
        name = f"f{number}"
        open_to_write(pair.first, name)
        write(pair.first, data)
        assert pair.second.stat(name)["st_size"] <= len(data)  # what waits there nobody is told without opening
        assert content(pair.second, name) == data
        pair.first.close("w")


def test_an_open_reader_sees_what_is_written_afterwards(pair: Pair) -> None:
    save(pair.first, b"before")
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"before"
    assert set(pair.granted("f")) & (SHARED | EXCLUSIVE)
    open_to_write(pair.first)
    write(pair.first, b"after, and longer")
    assert soon(lambda: pair.second.read("r") == b"after, and longer")
    assert pair.second.fstat("r")["st_size"] == 17
    assert pair.second.stat("f")["st_size"] == 17


def test_both_write_in_turns(pair: Pair) -> None:
    for caller in (pair.first, pair.second):
        open_to_write(caller)
    for number in range(6):
        writer, reader = (pair.first, pair.second) if number % 2 else (pair.second, pair.first)
        write(writer, b"%d" % number * 1000, number * 700)
        expected = b"%d" % number * 1000
        assert soon(lambda reader=reader, at=number * 700, expected=expected: reader.read("w", 1000, at) == expected)  # type: ignore[misc]


def test_truncation_is_seen_by_an_open_reader(pair: Pair) -> None:
    save(pair.first, b"x" * 100_000)
    pair.second.open("r", "f")
    assert len(pair.second.read("r")) == 100_000
    pair.first.do("os.truncate(os.path.join(point, 'f'), 10)")
    assert soon(lambda: pair.second.read("r") == b"x" * 10)
    assert soon(lambda: pair.second.stat("f")["st_size"] == 10)


WRITER: Final = """
import hashlib, os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o666)
digest = hashlib.sha256()
for number in range(120):
    piece = hashlib.sha256(b"%d" % number).digest() * 1000
    digest.update(piece)
    assert os.write(fd, piece) == len(piece)
    if not number:
        sys.stdin.readline()
    time.sleep(0.005)
os.close(fd)
print(digest.hexdigest())
"""


def first_difference(expected: bytes, read: bytes) -> str | None:
    """Say where what was read ceases to be the beginning of what was expected; None: it is."""
    if expected.startswith(read):
        return None
    start = next(at for at, (one, other) in enumerate(zip(expected, read, strict=False)) if one != other)
    end = next((at for at in range(start, len(read)) if read[at : at + 32] == expected[at : at + 32]), len(read))
    zeros = "zeros" if not any(read[start:end]) else "not only zeros"
    return f"wrong from {start} to {end}: {zeros}"


def test_a_reader_that_arrives_late_gets_every_byte_of_an_exclusive_writer(pair: Pair) -> None:
    expected = b"".join(hashlib.sha256(b"%d" % number).digest() * 1000 for number in range(120))
    writer = pair.mounts[0].start("/usr/bin/python3", "-c", WRITER, pair.mounts[0].point / "f")
    assert wait_for((pair.folder / "f").exists, 10)
    assert wait_for(lambda: bool(set(pair.granted("f")) & EXCLUSIVE), 10)
    assert writer.stdin is not None
    writer.stdin.write(b"go on\n")
    writer.stdin.flush()
    lengths: list[int] = []
    while writer.poll() is None:
        read = content(pair.second)
        wrong = first_difference(expected, read)
        assert wrong is None, f"{len(read)} bytes were read, {wrong}, after reads of {lengths} bytes"
        lengths.append(len(read))
    out, error = writer.communicate(timeout=30)
    assert out.decode().strip() == hashlib.sha256(expected).hexdigest(), error
    assert lengths
    assert lengths == sorted(lengths)
    assert soon(lambda: content(pair.second) == expected)
    assert (pair.folder / "f").read_bytes() == expected


def test_smbclient_reads_and_writes_beside_a_mount(pair: Pair, tmp_path: Path) -> None:
    inside = f'cd "{pair.folder.name}"; lcd "{tmp_path}"'
    open_to_write(pair.first)
    write(pair.first, b"what waits here" * 5000)
    assert set(pair.granted("f")) & EXCLUSIVE
    pair.server.smbclient(f"{inside}; get f got")
    assert (tmp_path / "got").read_bytes() == b"what waits here" * 5000
    (tmp_path / "new").write_bytes(b"from another client")
    pair.server.smbclient(f"{inside}; put new f")
    assert soon(lambda: pair.first.read("w") == b"from another client")
    assert soon(lambda: content(pair.second) == b"from another client")


# -- sizes of files that are open


@pytest.mark.parametrize("cache", ["strict", "loose"])
@pytest.mark.parametrize("dialect", THREE)
def test_a_file_that_was_looked_at_too_early_has_its_size_once_it_is_open(
    pair_of: Callable[..., Pair], dialect: str, cache: str
) -> None:
    pair = pair_of({"vers": dialect, "cache": cache, "actimeo": LONG_S})
    for number in range(5):
        name = f"f{number}"
        open_to_write(pair.first, name)
        assert pair.second.stat(name)["st_size"] == 0
        write(pair.first, b"z" * 8000)
        pair.first.do("os.fsync(kept['w'])")
        pair.second.open("r", name)
        assert pair.second.fstat("r")["st_size"] == 8000
        assert pair.second.read("r", 10_000) == b"z" * 8000
        pair.second.close("r")
        pair.first.close("w")


APPENDER: Final = """
import os, sys
print("begun", flush=True)
while True:
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x" * 10)
    os.close(fd)
"""
READER: Final = """
import os, sys
shrunk, length = 0, 0
for _ in range(300):
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.fstat(fd)
    read = len(os.read(fd, 1 << 22))
    os.close(fd)
    shrunk += read < length
    length = read
print(shrunk)
"""


@pytest.mark.parametrize("dialect", THREE)
def test_opening_a_file_that_another_client_appends_to_all_the_time_never_fails(
    pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({"vers": dialect, "cache": "loose", "nolease": True, "actimeo": "10ms"})
    save(pair.first, b"")
    appender = pair.mounts[0].start("/usr/bin/python3", "-c", APPENDER, pair.mounts[0].point / "f")
    try:
        assert appender.stdout is not None
        assert appender.stdout.readline() == b"begun\n"
        shrunk = pair.mounts[1].python(READER, pair.mounts[1].point / "f")
    finally:
        appender.kill()
        appender.communicate(timeout=30)
    assert shrunk == "0\n"


# -- without a grant


@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_without_leases_everything_is_seen_within_the_time_limits(pair_of: Callable[..., Pair], dialect: str) -> None:
    pair = pair_of({"vers": dialect, "nolease": True, "actimeo": 1})
    save(pair.first, b"before")
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"before"
    open_to_write(pair.first)
    assert set(pair.granted("f")) == {""}
    write(pair.first, b"after, and longer")
    assert soon(lambda: pair.second.read("r") == b"after, and longer", 1 + SLACK_S)
    assert soon(lambda: pair.second.stat("f")["st_size"] == 17, 1 + SLACK_S)
    pair.first.do("os.utime(kept['w'], (1e9, 1e9))")
    assert soon(lambda: pair.second.stat("f")["st_mtime"] == 1e9, 1 + SLACK_S)


# -- names


@pytest.mark.parametrize("dialect", ["1.0", "2.1", "3.1.1"])
def test_names_are_seen_within_their_time_limit(pair_of: Callable[..., Pair], dialect: str) -> None:
    pair = pair_of({"vers": dialect, "actimeo": 1})
    look_at_names(pair, 1 + SLACK_S)


def test_names_are_seen_at_once_under_a_directory_lease(
    pair_of: Callable[..., Pair], start_samba: Callable[..., SambaServer]
) -> None:
    server = start_samba(programs=newer_samba())
    pair = pair_of({"vers": "3.1.1", "actimeo": LONG_S}, server)
    names(pair.second)
    assert "RH" in server.grants(pair.folder)
    look_at_names(pair, SOON_S)


def test_under_a_directory_lease_what_breaks_none_is_seen_as_soon_as_it_is_told(
    pair_of: Callable[..., Pair], start_samba: Callable[..., SambaServer]
) -> None:
    server = start_samba(programs=newer_samba())
    pair = pair_of({"vers": "3.1.1", "nonotify": False, "actimeo": LONG_S}, server)
    numbers = iter(range(100))

    def hears() -> bool:
        """Change something on the server's own disk, behind its back: it may not look yet."""
        (pair.folder / f"probe {next(numbers)}").touch()
        return soon(lambda: names(pair.second) == names_on_disk(), 1)

    def names_on_disk() -> list[str]:
        return sorted(path.name for path in pair.folder.iterdir())

    assert wait_for(hears, LONG_S / 2)
    assert soon(lambda: "RH" in server.grants(pair.folder) and bool(names(pair.second)))
    (pair.folder / "made").write_text("by the server itself")
    assert soon(lambda: "made" in names(pair.second))
    assert content(pair.second, "made") == b"by the server itself"
    (pair.folder / "made").rename(pair.folder / "renamed")
    assert soon(lambda: names(pair.second) == names_on_disk())
    for path in pair.folder.iterdir():
        path.unlink()
    assert soon(lambda: names(pair.second) == [])
    look_at_names(pair, SOON_S)


def look_at_names(pair: Pair, within_s: float) -> None:
    """Let the first make, rename and remove things, and the second see each; it had looked for all of them before."""
    save(pair.first, b"content", "old")
    assert soon(lambda: names(pair.second) == ["old"], within_s)
    assert content(pair.second, "old") == b"content"
    assert not pair.second.do("os.path.exists(os.path.join(point, 'new'))")
    pair.first.do("os.rename(os.path.join(point, 'old'), os.path.join(point, 'new'))")
    assert soon(lambda: names(pair.second) == ["new"], within_s)
    assert soon(lambda: bool(pair.second.do("os.path.exists(os.path.join(point, 'new'))")), within_s)
    assert soon(lambda: not pair.second.do("os.path.exists(os.path.join(point, 'old'))"), within_s)
    pair.first.do("os.mkdir(os.path.join(point, 'folder'))")
    assert soon(lambda: names(pair.second) == ["folder", "new"], within_s)
    pair.first.do("os.unlink(os.path.join(point, 'new'))")
    assert soon(lambda: not pair.second.do("os.path.exists(os.path.join(point, 'new'))"), within_s)
    assert soon(lambda: names(pair.second) == ["folder"], within_s)
    pair.first.do("os.rmdir(os.path.join(point, 'folder'))")
    assert soon(lambda: names(pair.second) == [], within_s)


@pytest.mark.parametrize(
    "options",
    # OPEN_ANDX shares no deletion: with it, what is being read here nobody else can remove.  [MS-CIFS] 2.2.4.41.1
    [{"vers": "1.0", "smb1_open": "nt"}, {"vers": "2.1"}, {"vers": "3.1.1"}],
    ids=["1.0", "2.1", "3.1.1"],
)
def test_a_file_that_another_client_removes_lives_on_for_who_has_it_open(
    pair_of: Callable[..., Pair], options: Options
) -> None:
    pair = pair_of({**options, "actimeo": 1})
    save(pair.first, b"content")
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"content"
    pair.first.do("os.unlink(os.path.join(point, 'f'))")
    assert soon(lambda: not pair.second.do("os.path.exists(os.path.join(point, 'f'))"), 1 + SLACK_S)
    assert pair.second.read("r") == b"content"
    pair.second.close("r")
    assert wait_for(lambda: list(pair.folder.iterdir()) == [], 5)


# -- those who do not answer


@contextmanager
def kept_by_a_stranger(samba: SambaServer, pair: Pair) -> Iterator[Stranger]:
    """Have a file `f` whose server waits for a client that never answers, whoever opens it."""
    (pair.folder / "f").write_bytes(b"content")
    (pair.folder / "f").chmod(0o666)
    with stranger_on(samba) as stranger:
        stranger.open(f"{pair.folder.name}/f", access=READ_DATA | WRITE_DATA, oplock=BATCH)
        yield stranger


@pytest.mark.parametrize("dialect", ["1.0", "2.1", "3.1.1"])
def test_a_client_that_never_answers_breaks_stops_nothing_else(
    samba: SambaServer, pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({"vers": dialect, "actimeo": 1})
    with kept_by_a_stranger(samba, pair) as stranger:
        assert pair.granted("f") == ["BATCH"]
        waiting = pair.mounts[0].start("cat", pair.mounts[0].point / "f")
        time.sleep(0.5)
        assert waiting.poll() is None
        began = time.monotonic()
        for caller in (pair.first, pair.second):
            save(caller, b"another", "g")
            assert content(caller, "g") == b"another"
            assert soon(lambda caller=caller: names(caller) == ["f", "g"])  # type: ignore[misc]
        assert time.monotonic() - began < PATIENCE_S / 3
        stranger.vanish()
        out, error = waiting.communicate(timeout=20)
    assert out == b"content", error


@pytest.mark.soak
@pytest.mark.timeout(240)
@pytest.mark.parametrize("dialect", ["1.0", "2.1", "3.1.1"])
def test_a_client_that_never_answers_is_waited_for_as_long_as_the_server_does(
    samba: SambaServer, pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({"vers": dialect, "actimeo": 1})
    with kept_by_a_stranger(samba, pair):
        began = time.monotonic()
        assert pair.mounts[0].run("cat", pair.mounts[0].point / "f", timeout_s=90) == "content"
        assert time.monotonic() - began < PATIENCE_S + 15


def test_a_mount_that_is_stopped_for_a_while_loses_nothing_that_waits_in_it(pair: Pair) -> None:
    open_to_write(pair.first)
    write(pair.first, b"y" * 500_000)
    assert set(pair.granted("f")) & EXCLUSIVE
    pair.mounts[0].process.send_signal(signal.SIGSTOP)
    try:
        reader = pair.mounts[1].start("sha256sum", pair.mounts[1].point / "f")
        save(pair.second, b"another", "g")
        assert content(pair.second, "g") == b"another"
        time.sleep(1)
    finally:
        pair.mounts[0].process.send_signal(signal.SIGCONT)
    out, error = reader.communicate(timeout=30)
    assert out.decode().split()[:1] == [hashlib.sha256(b"y" * 500_000).hexdigest()], error
