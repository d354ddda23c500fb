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
from tests.faults.expected import SLACK_S, promise
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


def cells() -> Iterator[Any]:
    """Yield each fault with each dialect and each seed; all but one of each, and what takes long, for the soak alone.

    A run is told by all three: what has failed by chance fails again.
    """
    turn = itertools.cycle(DIALECTS)
    for fault in FAULTS:
        first = next(one for one in turn if one in fault.dialects and not any(lasting(fault, one)))
        for dialect, seed in itertools.product(fault.dialects, range(SEEDS if fault.chance else 1)):
            name = f"{fault.name}-{dialect}" + (f"-seed {seed}" if fault.chance else "")
            marks = [] if (dialect, seed) == (first, 0) else [pytest.mark.soak]
            yield pytest.param(fault, dialect, seed, id=name, marks=marks)


def lasting(fault: Fault, dialect: str) -> Iterator[bool]:
    """Yield for each operation whether it may take longer than `timeo=`."""
    return (promise(operation, fault, dialect).more_s > 0 for operation in OPERATIONS)


@pytest.mark.parametrize("fault, dialect, seed", list(cells()))
def test_each_operation_keeps_its_promise(stage: Stage, fault: Fault, dialect: str, seed: int) -> None:
    server = stage.server({"server signing": "auto"} if fault.options == SIGNED else {})
    with stage.folder_on(server) as folder, stage.relay_to(server) as (relay, host):
        for name in (LAST, *(operation.name for operation in OPERATIONS)):
            furnish(folder / name, stage.user)
        options = {"vers": dialect, **fault.options}
        announced = UNSAVED if fault.kind in (Kind.DAMAGE, Kind.READ_ONLY, Kind.WITHDRAWN, Kind.GONE) else ()
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
