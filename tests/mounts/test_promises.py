"""docs/coherence.md, cell by cell, for each cache mode, with and without a grant; what test_coherence.py does not show.

What is seen because the server tells of it, test_notifications.py shows; here it tells of nothing.

Where something is promised at once, time limits are half a minute, so that they cannot help, or there is no grant and
nobody waits. Where it is promised within a time limit, who looks may take long; for ever it may not be.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.mounts import Options
from tests.support.pair import (
    EXCLUSIVE,
    LONG_S,
    SHARED,
    SOON_S,
    Pair,
    content,
    is_there,
    names,
    open_to_write,
    save,
    soon,
    write,
)
from tests.support.samba import SambaServer
from tests.support.samba_programs import newer_samba
from tests.support.stranger import READ_DATA, SHARE_NOTHING, stranger_on

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

PATIENCE_S: Final = 35.0  # how long Samba waits for the answer to a break
LOOSE_S: Final = 3.0  # 30 times the 100 ms of `LOOSELY`
LOOSELY: Final[Options] = {"cache": "loose", "nolease": True, "actimeo": "100ms"}
SMB1_NT: Final[Options] = {"vers": "1.0", "nounix": True, "smb1_open": "nt"}  # OPEN_ANDX shares no deletion


def put(pair: Pair, name: str = "f", data: bytes = b"content") -> Path:
    """Put a file there that no client has ever had open."""
    path = pair.folder / name
    path.write_bytes(data)
    path.chmod(0o666)
    return pair.server.user.owns(path)


def on_disk(pair: Pair, name: str = "f") -> bytes:
    return (pair.folder / name).read_bytes()


# -- data: what another client sees of what is written here


@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_who_only_looks_sees_the_size_of_what_waits_and_takes_no_grant(
    pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({"vers": dialect, "actimeo": LONG_S})
    open_to_write(pair.first)
    write(pair.first, b"x" * 5000)
    assert soon(lambda: f" {5000} " in pair.server.smbclient(f'cd "{pair.folder.name}"; ls f'))
    assert set(pair.granted("f")) <= EXCLUSIVE
    write(pair.first, b"x" * 6000)
    pair.first.do("os.utime(kept['w'], (1e9, 1e9))")
    pair.first.close("w")
    assert pair.second.stat("f")["st_size"] == 6000
    assert pair.second.stat("f")["st_mtime"] == 1e9


@pytest.mark.parametrize(
    "dialect, nolease", [("1.0", False), ("2.0", False), ("3.1.1", False), ("1.0", True), ("3.1.1", True)]
)
def test_without_an_exclusive_grant_a_write_returns_when_the_server_has_the_bytes(
    pair_of: Callable[..., Pair], dialect: str, nolease: bool
) -> None:
    pair = pair_of({"vers": dialect, "actimeo": LONG_S, "nolease": nolease})
    put(pair)
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"content"
    open_to_write(pair.first)
    granted = set(pair.granted("f"))
    assert granted == {""} if nolease else granted <= SHARED | {""} and granted & SHARED
    write(pair.first, b"CONTENT, and more")
    assert on_disk(pair) == b"CONTENT, and more"


@pytest.mark.parametrize("nonotify", [False, True], ids=["told", "not told"])
@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_loose_gives_up_what_waits_to_who_opens_and_at_fsync_and_close(
    pair_of: Callable[..., Pair], dialect: str, nonotify: bool
) -> None:
    pair = pair_of({"vers": dialect, "cache": "loose", "actimeo": LONG_S, "nonotify": nonotify})
    open_to_write(pair.first)
    write(pair.first, b"x" * 5000)
    assert set(pair.granted("f")) <= EXCLUSIVE
    assert content(pair.second) == b"x" * 5000
    write(pair.first, b"y" * 6000)
    pair.first.do("os.fsync(kept['w'])")
    assert on_disk(pair) == b"y" * 6000
    write(pair.first, b"z" * 7000)
    pair.first.close("w")
    assert on_disk(pair) == b"z" * 7000


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("nolease", [False, True], ids=["granted", "none"])
def test_loose_writes_in_the_kernels_rhythm_what_nobody_asks_for(pair_of: Callable[..., Pair], nolease: bool) -> None:
    pair = pair_of({"cache": "loose", "nolease": nolease})
    open_to_write(pair.first)
    write(pair.first, b"x" * 5000)
    assert soon(lambda: on_disk(pair) == b"x" * 5000, 60)


MAP: Final = "kept.__setitem__('m', __import__('mmap').mmap(kept['w'], 0))"


@pytest.mark.parametrize("options", [{"vers": "1.0"}, {"cache": "loose"}], ids=["1.0 strict", "3.1.1 loose"])
def test_what_is_stored_into_a_mapping_is_there_after_msync_and_after_close(
    pair_of: Callable[..., Pair], options: Options
) -> None:
    pair = pair_of(options)
    put(pair, data=bytes(10_000))
    open_to_write(pair.first)
    pair.first.do(MAP)
    pair.first.do("kept['m'].__setitem__(slice(5000, 5006), b'mapped')")
    pair.first.do("kept['m'].flush()")
    pair.first.do("os.fsync(kept['w'])")
    assert on_disk(pair)[5000:5006] == b"mapped"
    pair.first.do("kept['m'].__setitem__(slice(5000, 5006), b'MAPPED')")
    pair.first.do("kept.pop('m').close()")
    pair.first.close("w")
    assert on_disk(pair)[5000:5006] == b"MAPPED"


# -- data: what is seen here of what another client writes


@pytest.mark.parametrize("dialect", ["1.0", "2.0", "3.1.1"])
def test_loose_sees_others_data_at_once_under_a_grant(pair_of: Callable[..., Pair], dialect: str) -> None:
    pair = pair_of({"vers": dialect, "cache": "loose", "actimeo": LONG_S})
    put(pair, data=b"before")
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"before"
    assert set(pair.granted("f")) & (SHARED | EXCLUSIVE)
    open_to_write(pair.first)
    write(pair.first, b"BEHIND")
    pair.first.do("os.fsync(kept['w'])")
    assert soon(lambda: pair.second.read("r") == b"BEHIND")
    write(pair.first, b"longer than it was")
    pair.first.do("os.fsync(kept['w'])")
    # The size is the kernel's opinion while the file is open: who opens it now passes its cache by.
    assert soon(lambda: content(pair.second) == b"longer than it was")


@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_loose_without_a_grant_sees_what_others_do_within_thirty_times_the_limits(
    pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({**LOOSELY, "vers": dialect})
    for name in ("f", "goes", "changes"):
        put(pair, name, b"before")
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"before"
    assert soon(lambda: names(pair.second) == ["changes", "f", "goes"], LOOSE_S + SOON_S)  # listed when it was mounted
    assert not is_there(pair.second, "comes")
    open_to_write(pair.first)
    assert set(pair.granted("f")) == {""}
    write(pair.first, b"BEHIND")
    pair.first.do("os.fsync(kept['w'])")
    save(pair.first, b"longer than it was", "changes")
    pair.first.do("os.utime(os.path.join(point, 'changes'), (1e9, 1e9))")
    pair.first.do("os.chmod(os.path.join(point, 'changes'), 0o444)")
    pair.first.do("os.unlink(os.path.join(point, 'goes'))")
    save(pair.first, b"new", "comes")
    within_s = LOOSE_S + SOON_S
    assert soon(lambda: pair.second.read("r") == b"BEHIND", within_s)
    assert soon(lambda: pair.second.stat("changes")["st_size"] == 18, within_s)
    assert soon(lambda: pair.second.stat("changes")["st_mtime"] == 1e9, within_s)
    assert soon(lambda: not pair.second.stat("changes")["st_mode"] & 0o222, within_s)
    assert content(pair.second, "changes") == b"longer than it was"
    assert soon(lambda: is_there(pair.second, "comes") and not is_there(pair.second, "goes"), within_s)
    assert soon(lambda: names(pair.second) == ["changes", "comes", "f"], within_s)


@pytest.mark.parametrize("options", [SMB1_NT, {"vers": "2.0"}, {"vers": "3.1.1"}], ids=["1.0", "2.0", "3.1.1"])
def test_cache_none_shows_everything_at_once_and_asks_for_no_grant(
    pair_of: Callable[..., Pair], options: Options
) -> None:
    """Nobody waits in here: the second is asked once, right after the first has done something."""
    pair = pair_of({**options, "cache": "none", "actimeo": LONG_S})
    first, second = pair.first, pair.second
    open_to_write(first)
    write(first, b"before")
    assert on_disk(pair) == b"before"
    second.open("r", "f")
    assert second.read("r") == b"before"
    assert set(pair.granted("f")) == {""}
    write(first, b"BEHIND, and longer")
    assert second.read("r") == b"BEHIND, and longer"
    assert second.fstat("r")["st_size"] == second.stat("f")["st_size"] == 18
    first.do("os.ftruncate(kept['w'], 3)")
    assert second.read("r") == b"BEH"
    first.do("os.utime(kept['w'], (1e9, 1e9))")
    assert second.stat("f")["st_mtime"] == 1e9
    first.do("os.chmod(os.path.join(point, 'f'), 0o444)")
    assert not second.stat("f")["st_mode"] & 0o222
    first.do("os.chmod(os.path.join(point, 'f'), 0o666)")
    first.close("w")

    assert not is_there(second, "new")
    save(first, b"new", "new")
    assert is_there(second, "new")
    assert names(second) == ["f", "new"]
    first.do("os.rename(os.path.join(point, 'new'), os.path.join(point, 'newer'))")
    assert (is_there(second, "new"), is_there(second, "newer")) == (False, True)
    assert names(second) == ["f", "newer"]
    first.do("os.unlink(os.path.join(point, 'f'))")
    assert not is_there(second, "f")
    assert second.read("r") == b"BEH"  # it lives on for who has it open
    first.do("os.unlink(os.path.join(point, 'newer'))")
    assert not is_there(second, "newer")


# -- names, times, modes


@pytest.mark.parametrize("dialect", ["1.0", "3.1.1"])
def test_times_and_modes_are_no_grants_business_and_seen_within_their_limit(
    pair_of: Callable[..., Pair], dialect: str
) -> None:
    pair = pair_of({"vers": dialect, "actimeo": 1})
    put(pair)
    pair.second.open("r", "f")
    assert pair.second.read("r") == b"content"
    assert set(pair.granted("f")) & (SHARED | EXCLUSIVE)
    pair.first.do("os.utime(os.path.join(point, 'f'), (1e9, 1e9))")
    assert soon(lambda: pair.second.stat("f")["st_mtime"] == 1e9, 1 + SOON_S)
    pair.first.do("os.chmod(os.path.join(point, 'f'), 0o444)")
    assert soon(lambda: not pair.second.stat("f")["st_mode"] & 0o222, 1 + SOON_S)


REMOVE: Final = "os.unlink(os.path.join(point, 'f'))"
RENAME: Final = "os.rename(os.path.join(point, 'f'), os.path.join(point, 'g'))"


def take_away(pair: Pair, how: str = REMOVE) -> None:
    """Let the first take the name of what the second has open, and the second see that at once, and read on."""
    assert is_there(pair.second, "f")
    pair.first.do(how)
    assert soon(lambda: not is_there(pair.second, "f"))
    assert pair.second.read("w") == b"content"


@pytest.mark.parametrize(
    "options, how",
    [
        (SMB1_NT, REMOVE),
        ({"vers": "2.0"}, REMOVE),
        ({"vers": "2.1"}, REMOVE),
        ({"vers": "3.1.1"}, REMOVE),
        ({"vers": "3.1.1"}, RENAME),
        ({"vers": "3.1.1", "cache": "loose"}, REMOVE),
    ],
    ids=["1.0", "2.0", "2.1", "3.1.1", "3.1.1 renamed", "3.1.1 loose"],
)
def test_a_removal_that_takes_a_grant_is_seen_at_once(pair_of: Callable[..., Pair], options: Options, how: str) -> None:
    pair = pair_of({**options, "actimeo": LONG_S})
    put(pair)
    open_to_write(pair.second)
    assert pair.second.read("w") == b"content"
    assert set(pair.granted("f")) <= EXCLUSIVE
    take_away(pair, how)
    assert not set(pair.granted("f")) & EXCLUSIVE


@pytest.mark.parametrize("kept", [False, True], ids=["open", "kept after its close"])
def test_a_removal_takes_leases_of_readers_where_the_server_says_so(
    pair_of: Callable[..., Pair], start_samba: Callable[..., SambaServer], kept: bool
) -> None:
    server = start_samba(programs=newer_samba())
    pair = pair_of({"vers": "2.1", "actimeo": LONG_S, "closetimeo": LONG_S}, server)  # 2.1 has no directory leases
    put(pair)
    pair.second.open("w", "f")
    assert pair.second.read("w") == b"content"
    if kept:
        pair.second.close("w")
    assert pair.granted("f") == ["RH"]
    if kept:
        pair.first.do("os.unlink(os.path.join(point, 'f'))")
        assert soon(lambda: not is_there(pair.second, "f"))
        assert not (pair.folder / "f").exists()  # nothing of ours holds it
    else:
        take_away(pair)


def test_names_are_believed_for_acdirmax_though_attributes_are_for_longer(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of({"vers": "3.1.1", "acregmax": LONG_S, "acdirmax": 1})
    put(pair, "goes")
    assert is_there(pair.second, "goes")
    assert not is_there(pair.second, "comes")
    pair.first.do("os.unlink(os.path.join(point, 'goes'))")
    save(pair.first, b"", "comes")
    assert soon(lambda: not is_there(pair.second, "goes"), 1 + SOON_S)
    assert soon(lambda: is_there(pair.second, "comes"), 1 + SOON_S)


# -- handles and locks


@pytest.mark.parametrize(
    "options, granted",
    [(SMB1_NT, "BATCH"), ({"vers": "2.1"}, "RH"), ({"vers": "3.1.1"}, "RH")],
    ids=["1.0", "2.1", "3.1.1"],
)
def test_a_handle_that_is_kept_after_the_last_close_holds_nobody_up(
    pair_of: Callable[..., Pair], options: Options, granted: str
) -> None:
    pair = pair_of({**options, "closetimeo": LONG_S})
    put(pair)
    assert content(pair.second) == b"content"
    assert pair.granted("f") == [granted]
    with stranger_on(pair.server) as stranger:
        began = time.monotonic()
        stranger.open(f"{pair.folder.name}/f", access=READ_DATA, share=SHARE_NOTHING)
        assert time.monotonic() - began < PATIENCE_S / 2
        assert pair.granted("f") == [""]


def test_a_lock_of_one_machine_is_unknown_to_the_other(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of({"vers": "3.1.1"})
    put(pair)
    take = "__import__('fcntl').lockf(kept['w'], 6)"  # LOCK_EX | LOCK_NB
    for caller in (pair.first, pair.second):
        open_to_write(caller)
        caller.do(take)
    beside = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    code, _, error = pair.mounts[0].run_all("/usr/bin/python3", "-c", beside, pair.mounts[0].point / "f")
    assert code != 0
    assert "Resource temporarily unavailable" in error
