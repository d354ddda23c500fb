"""Copies over slow links: complete, over one connection, and `ls` beside them is quick all the same."""

import itertools
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.relay import Relay
from tests.support.mounts import Mount
from tests.support.samba import SambaServer
from tests.support.tree import sha256, write_random
from tests.support.users import User

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(300)]

MBIT: Final = 125_000  # bytes a second
SOON_S: Final = 2.0  # for `ls`, its start as a process included
PAUSE_S: Final = 0.3  # between two looks
LINKS: Final = [
    pytest.param(1, "3.1.1", 8, id="1 Mbit/s 3.1.1"),
    pytest.param(10, "1.0", 5, id="10 Mbit/s 1.0"),
    *(
        pytest.param(rate, vers, 60, id=f"{rate} Mbit/s {vers}, a minute", marks=pytest.mark.soak)
        for rate in (1, 10)
        for vers in ("1.0", "2.1", "3.1.1")
    ),
]


@pytest.mark.parametrize("rate, vers, seconds", LINKS)
@pytest.mark.parametrize("direction", ["to the share", "from the share"])
def test_a_copy_is_complete_and_ls_beside_it_is_quick(
    samba: SambaServer,
    share_folder: Path,
    relay_to: Callable[..., Relay],
    mount: Callable[..., Mount],
    user: User,
    rate: int,
    vers: str,
    seconds: int,
    direction: str,
) -> None:
    user.owns(share_folder)
    for number in range(300):
        (share_folder / f"never listed {number}").mkdir()
        (share_folder / f"never listed {number}" / "file").touch()
    relay = relay_to(samba.port, rate=rate * MBIT, keep=128)
    mounted = mount(samba, {"vers": vers, "port": relay.port}, subfolder=f"/{share_folder.name}")
    local = user.owns_new(mounted.point.parent / "local")
    inward = direction == "to the share"
    original, copy = (local / "f", share_folder / "copy") if inward else (share_folder / "f", local / "copy")
    write_random(original, rate * MBIT * seconds, random.Random(8))
    original.chmod(0o644)
    source, target = (original, mounted.point / "copy") if inward else (mounted.point / "f", copy)

    took: list[float] = []
    began = time.monotonic()
    with mounted.start("cp", source, target) as copying:
        for number in itertools.count():
            asked = time.monotonic()
            assert mounted.run("ls", mounted.point / f"never listed {number % 300}") == "file\n"
            took.append(time.monotonic() - asked)
            try:
                copying.wait(PAUSE_S)
                break
            except subprocess.TimeoutExpired:
                continue
        assert copying.communicate() == (b"", b"")
    assert copying.returncode == 0
    assert time.monotonic() - began > seconds / 2, "the link was not slow"
    assert sha256(copy) == sha256(original)
    assert max(took) <= SOON_S, took
    assert relay.accepted == 1
