"""Round trips and requests of single operations, counted in a relay's record: figures that no noise touches.

A trip is counted if its answer was there when the command ended: that is what the command can have waited for.
Requests are counted for a while longer, so that what is put off (a CLOSE) is not left out.

A fresh mount has just listed its root, and believes that for a second. So each operation is counted twice: at once
after mounting, and on a mount that has been idle for longer than anything is believed.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from tests.bench.operations import OPERATIONS, Operation
from tests.relay import Relay
from tests.support.command_names import count_requests
from tests.support.folders import public_folder
from tests.support.mounts import Mount, Options, mounted
from tests.support.record import Pdu, dependent_round_trips
from tests.support.samba import SambaServer
from tests.support.users import Installation, User

CROSSING: Final = 4  # round trips until what mounting itself has sent is answered
SETTLE_S: Final = 1.5  # longer than a handle is kept, or an answer believed
KEPT: Final = 1024  # bytes of each packet: a compound's headers and names
DIALECTS: Final = ("3.1.1", "1.0")
HEADINGS: Final = ("operation", "vers", "trips", "target", "", "after idling", "cifs.ko 3.1.1 · SMB1", "requests")


@dataclass(frozen=True, slots=True)
class Counted:
    """What one operation cost over one dialect."""

    operation: str
    vers: str
    trips: int  # at once after mounting, or behind the command that warms
    idle_trips: int | None  # on a mount that was idle before; None: there is no such thing for this operation
    waited: float  # the command's own time in round trips: what a user feels, the programs' start-up included
    requests: Counter[str]
    target: int
    kernel: str

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.trips <= self.target

    def cells(self) -> list[str]:
        """Return the line of a table: as `HEADINGS`."""
        idle = "" if self.idle_trips is None else str(self.idle_trips)
        said = ", ".join(f"{count} {name}" for name, count in self.requests.most_common())
        verdict = "met" if self.met else "MISSED"
        return [self.operation, self.vers, str(self.trips), str(self.target), verdict, idle, self.kernel, said]

    def as_json(self) -> dict[str, Any]:
        """Return it for the file of figures."""
        # `asdict` makes a Counter anew as if from its pairs, and counts these.
        return {**asdict(replace(self, requests=Counter())), "requests": dict(self.requests), "met": self.met}


def answered_round_trips(pdus: Sequence[Pdu]) -> int:
    """Return the dependent round trips among those requests whose answers have left the relay by now."""
    gone = [pdu for pdu in pdus if not pdu.to_server and pdu.left_s is not None]
    answered = {(pdu.connection, pdu.identity) for pdu in gone}
    asked = [pdu for pdu in pdus if pdu.to_server and (pdu.connection, pdu.identity) in answered]
    # What was asked before the first of them is no part of this, nor is its answer.
    of_these = {(pdu.connection, pdu.identity) for pdu in asked}
    return dependent_round_trips([*asked, *(pdu for pdu in gone if (pdu.connection, pdu.identity) in of_these)])


class TripCounter:
    """Counts operations on one server of its own."""

    def __init__(self, server: SambaServer, user: User, installation: Installation, local: Path) -> None:
        self._server = server
        self._user = user
        self._installation = installation
        self._local = local  # a folder of 50 small files on this machine

    def count(self, operation: Operation, vers: str, options: Options) -> Counted:
        """Run one operation on fresh mounts and count it."""
        trips, waited, requests = self._count(operation, {**options, "vers": vers}, CROSSING * operation.round_trip_s)
        idle = None
        if operation.command and not operation.warm:
            idle, _, _ = self._count(operation, {**options, "vers": vers}, SETTLE_S)
        goal = operation.targets.of(vers == "1.0")
        return Counted(operation.name, vers, trips, idle, waited, requests, goal, operation.kernel)

    def _count(self, operation: Operation, options: Options, idle_s: float) -> tuple[int, float, Counter[str]]:
        """Return round trips, the time in round trips, and the requests by name."""
        self._empty_share()
        operation.prepare(self._server.root)
        give_to(self._user, self._server.root)
        target = ("127.0.0.1", self._server.port)
        with Relay.started(target, round_trip_s=operation.round_trip_s, keep=KEPT) as relay:
            began = time.perf_counter()
            filled = {**options, "port": relay.port}
            with mounted(self._server, filled, user=self._user, installation=self._installation) as mount:
                mark = 0
                if operation.command:
                    if operation.warm:
                        self._run(mount, operation, operation.warm)
                        time.sleep(operation.pause_s)
                    else:
                        time.sleep(idle_s)
                    mark = relay.mark()
                    began = time.perf_counter()
                    self._run(mount, operation, operation.command)
                trips = answered_round_trips(relay.pdus(mark))
                took_s = time.perf_counter() - began
                time.sleep(SETTLE_S)
                return trips, took_s / operation.round_trip_s, count_requests(relay.pdus(mark))

    def _run(self, mount: Mount, operation: Operation, command: str) -> None:
        mount.run("sh", "-c", command, mount.point, self._local, timeout_s=operation.timeout_s)

    def _empty_share(self) -> None:
        for path in self._server.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def give_to(user: User, folder: Path) -> None:
    """Give a folder and all below it to `user`."""
    for path in (folder, *folder.rglob("*")):
        user.owns(path)


def count_trips(
    server: SambaServer,
    user: User,
    installation: Installation,
    *,
    wanted: Sequence[str] = (),
    dialects: Iterable[str] = DIALECTS,
    options: Options = {},  # noqa: B006  # never changed
    tell: Callable[[str], None] = print,
) -> list[Counted]:
    """Count every operation whose name contains one of `wanted` (all if there are none), each over each dialect."""
    counted = []
    with public_folder("smbfuse-copied-") as local:
        for number in range(50):
            (local / f"{number:03}").write_bytes(bytes(4096))
        counter = TripCounter(server, user, installation, local)
        for vers in dialects:
            for operation in OPERATIONS:
                if not wanted or any(word in operation.name for word in wanted):
                    tell(f"counting {operation.name}, vers={vers}")
                    counted.append(counter.count(operation, vers, options))
    return counted


def as_table(counted: Iterable[Counted]) -> Table:
    """Show the figures as performance figures of the others are shown: one line an operation, the target beside it."""
    table = Table(title="Dependent round trips of one command on a fresh mount", show_lines=False)
    for heading in HEADINGS:
        table.add_column(heading)
    for one in counted:
        table.add_row(*one.cells(), style=None if one.met else "red")
    return table
