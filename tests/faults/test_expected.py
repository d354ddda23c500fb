"""The table of promises itself: it is whole, the manual prints it, and it says no where a promise is broken."""

import errno
from pathlib import Path

import pyfuse3
import pytest

from smbfuse.fuse.operations import Operations
from smbfuse.fuse.xattrs import OperationsWithXattrs
from tests.faults import expected
from tests.faults.expected import PROMISES, SIGBUS, Promise, Result
from tests.faults.faults import FAULTS, Kind
from tests.faults.operations import OPERATIONS, SMALL, Manner
from tests.support.users import ROOT


def test_the_manual_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == expected.markdown(), "python -m tests.faults.expected"


def test_every_kind_of_fault_and_every_manner_has_its_promise_and_its_example() -> None:
    assert {fault.kind for fault in FAULTS} == set(PROMISES) == set(Kind)
    for row in PROMISES.values():
        assert {operation.manner for operation in OPERATIONS} == set(row) == set(Manner)
    for named in (FAULTS, OPERATIONS):
        names = [one.name for one in named]
        assert len(set(names)) == len(names)


def test_every_request_of_the_kernel_has_an_operation_that_leads_to_it() -> None:
    served = vars(Operations).keys() | vars(OperationsWithXattrs).keys()
    asked = {name for name in served if hasattr(pyfuse3.Operations, name) and callable(getattr(Operations, name))}
    nobody_asks = {"__init__", "init", "forget"}  # no program does, and the kernel waits for no answer
    led_to = {operation.name.partition(" ")[0] for operation in OPERATIONS}
    assert len(asked) > 30
    assert not {name for name in asked if not name.startswith("__")} - nobody_asks - led_to


def test_what_changes_something_says_how_to_see_it() -> None:
    for operation in OPERATIONS:
        assert (operation.holds is not None) is (operation.manner in (Manner.REPEATED, Manner.ONCE)), operation.name


@pytest.mark.parametrize(
    "result, error, wrong, is_done, broken",
    [
        (Result.DONE, None, "", True, False),
        (Result.DONE, None, "", False, True),  # a lie
        (Result.DONE, errno.EHOSTDOWN, "", True, True),
        (Result.DONE, None, "AssertionError", True, True),
        (Result.DOWN, errno.EHOSTDOWN, "", False, False),
        (Result.DOWN, errno.ETIMEDOUT, "", True, False),
        (Result.DOWN, errno.ENOENT, "", False, True),
        (Result.DOWN, None, "", True, True),
        (Result.DOWN, None, SIGBUS, False, False),
        (Result.DOWN, None, "SIGSEGV", False, True),
        (Result.REFUSED, errno.EACCES, "", False, False),
        (Result.REFUSED, errno.EACCES, "", True, True),
        (Result.REFUSED, None, "", False, True),
        (Result.DONE_OR_REFUSED, None, "", True, False),
        (Result.DONE_OR_REFUSED, None, "", False, True),
        (Result.DONE_OR_REFUSED, errno.EACCES, "", False, False),
        (Result.DONE_OR_REFUSED, errno.EEXIST, "", True, False),
        (Result.DONE_OR_REFUSED, errno.EIO, "", False, True),
        (Result.ANSWERED, errno.EIO, "", False, False),
        (Result.ANSWERED, None, "AssertionError", False, False),
        (Result.ANSWERED, None, "SIGSEGV", False, True),
    ],
)
def test_a_broken_promise_is_seen(
    tmp_path: Path, result: Result, error: int | None, wrong: str, is_done: bool, broken: bool
) -> None:
    operation = next(operation for operation in OPERATIONS if operation.name == "rename")
    (tmp_path / ("moved" if is_done else "file")).write_text(SMALL)
    assert bool(Promise(result).broken(operation, tmp_path, error, wrong)) is broken
