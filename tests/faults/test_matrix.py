"""Every operation under every fault: what the program is told, when, and what is so on the server then.

All operations run at the same time, each in a process of its own: one fault meets them all. In `./dev test` each fault
is tried with one dialect, in `./dev soak` with all.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.faults.conftest import Stage
from tests.faults.crew import crew_on
from tests.faults.expected import HELD_UP, SLACK_S, promise
from tests.faults.faults import DIALECTS, FAULTS, SIGNED, Fault, Kind, Scene
from tests.faults.operations import OPERATIONS, SMALL, furnish
from tests.support.mounts import Mount
from tests.support.samba import wait_for

pytestmark = [pytest.mark.mounts, pytest.mark.samba]

SEEDS: Final = 10  # of each fault that is left to chance, and each dialect
FORGOTTEN_S: Final = 1.2  # the kernel keeps attributes for a second: then they are asked for again
SERVES_AGAIN_S: Final = 15.0  # after the end of the fault: the pauses between dials have become long by then
UNSAVED: Final = ("are not on the server", "are given up")  # what was written, and its writer told so
LAST: Final = "last"  # a folder that nobody touches before the fault is over


def cell(fault: Fault, dialect: str, seed: int) -> Any:
    """Return one run; it is told by all three, so that what has failed by chance fails again."""
    return pytest.param(fault, dialect, seed, id=f"{fault.name}-{dialect}" + (f"-seed {seed}" if fault.chance else ""))


def each_fault_once() -> Iterator[Any]:
    """Yield each fault with one dialect, and none in which anybody waits for another client."""
    turn = itertools.cycle(DIALECTS)
    for fault in FAULTS:
        fit = (dialect for dialect in turn if dialect in fault.dialects and not held_up(fault, dialect))
        yield cell(fault, next(fit), 0)


def whole_matrix() -> Iterator[Any]:
    """Yield each fault with each dialect and each seed."""
    for fault in FAULTS:
        for dialect, seed in itertools.product(fault.dialects, range(SEEDS if fault.chance else 1)):
            yield cell(fault, dialect, seed)


def held_up(fault: Fault, dialect: str) -> bool:
    return any(promise(operation, fault, dialect).note == HELD_UP for operation in OPERATIONS)


@pytest.mark.parametrize("fault, dialect, seed", list(each_fault_once()))
def test_each_operation_keeps_its_promise(stage: Stage, fault: Fault, dialect: str, seed: int) -> None:
    compare(stage, fault, dialect, seed)


@pytest.mark.soak
@pytest.mark.parametrize("fault, dialect, seed", list(whole_matrix()))
def test_each_operation_keeps_its_promise_over_each_dialect(
    stage: Stage, fault: Fault, dialect: str, seed: int
) -> None:
    compare(stage, fault, dialect, seed)


def compare(stage: Stage, fault: Fault, dialect: str, seed: int) -> None:
    """Do one fault to a mount on which every operation is under way, and compare with what is promised."""
    server = stage.server({"server signing": "auto"} if fault.options == SIGNED else {})
    with stage.folder_on(server) as folder, stage.relay_to(server) as (relay, host):
        for name in (LAST, *(operation.name for operation in OPERATIONS)):
            furnish(folder / name, stage.user)
        options = {"vers": dialect, **fault.options}
        announced = (
            UNSAVED
            if fault.kind in (Kind.DENIED, Kind.DAMAGE, Kind.READ_ONLY, Kind.WITHDRAWN, Kind.STUCK, Kind.GONE)
            else ()
        )
        with stage.mount(server, relay, host, folder.name, options, announced) as mount:
            with (
                crew_on(mount, mount.point, OPERATIONS) as crew,
                contextlib.closing(fault.walk(Scene(relay, server, host, f"{fault.name} {dialect} {seed}"))) as walk,
            ):
                time.sleep(FORGOTTEN_S)
                next(walk)
                crew.go()
                next(walk)
                outcomes = crew.answers()
                broken = []
                for operation in OPERATIONS:
                    promised, (error, wrong, seconds) = promise(operation, fault, dialect), outcomes[operation.name]
                    said = [promised.broken(operation, folder / operation.name, error, wrong)]
                    if seconds > promised.within_s + SLACK_S:
                        said.append(f"after {seconds:.1f} s, promised within {promised.within_s:g} s")
                    broken += [f"{operation.name}: {one}" for one in said if one]
                assert not broken, "\n".join(["", *broken, mount.log_text()[-4000:]])
                assert next(walk, None) is None
            serves_again(mount)


def serves_again(mount: Mount) -> None:
    """Assert that the mount shows what it could not have known before."""
    file = mount.point / LAST / "file"
    assert wait_for(lambda: mount.run_all("cat", file, timeout_s=30)[:2] == (0, SMALL), SERVES_AGAIN_S), (
        mount.log_text()
    )
