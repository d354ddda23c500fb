"""What a caller is doing, as its kernel tells."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smbfuse.fuse import callers
from tests.support.samba import wait_for


@pytest.fixture
def sleeper() -> Iterator[int]:
    """Provide a process of ours that is in a system call and stays there."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert wait_for(lambda: syscall(process.pid).isdigit(), 10)
            yield process.pid
        finally:
            process.kill()


def syscall(pid: int) -> str:
    """Return what /proc tells first: a number, or `running`."""
    try:
        return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").partition(" ")[0]
    except OSError as error:
        pytest.skip(f"the kernel does not tell: {error}")


def test_a_caller_is_known_by_its_system_call(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_known_by_what_it_does() -> bool:
        number = syscall(sleeper)  # one of its beginning, maybe: then it is in another one a moment later
        monkeypatch.setattr(callers, "_OURS", frozenset({int(number)} if number.isdigit() else ()))
        return callers.is_renaming(sleeper)

    assert not callers.is_renaming(sleeper)
    assert wait_for(is_known_by_what_it_does, 10)


@pytest.mark.parametrize("thread", [0, -1, 2**31 - 1])
def test_a_caller_that_is_not_to_be_seen_renames_nothing(thread: int) -> None:
    assert not callers.is_renaming(thread)
