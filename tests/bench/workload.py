"""What a workload is, and how it is measured: every client in turn, round after round, each on a fresh mount.

Caches are cold in the same way for all: the client is started anew and the kernel knows nothing of its mount. The
server's are warm for all: it has just written what is read.
"""

import contextlib
import statistics
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.bench.clients import MEMORY, OURS, SMBCLIENT, Failed, Memory, Ours
from tests.bench.peers import PEERS, SMB_PORT, Address, Peer
from tests.relay import Relay
from tests.support.mounts import Options
from tests.support.samba import SambaServer
from tests.support.users import Installation, User

MIB: Final = 1 << 20
RELAY_HOST: Final = "127.0.0.9"  # a loopback address of the relay's own: one client knows no port but 445
KEPT: Final = 64  # bytes of each packet: nothing is read of them here

Against = Literal["smbclient", "peers", "durable peers", "rclone"]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a workload."""

    name: str
    unit: str
    about: str
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """What one figure has to reach: so many times another client's of the same run, or a number."""

    metric: str
    factor: float = 1.0
    against: Against | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bar. `met` None: there was nothing to compare with."""

    metric: str
    wanted: str
    value: float | None
    met: bool | None


@dataclass(slots=True)
class Stage:
    """What all workloads of a run share."""

    server: SambaServer
    user: User
    installation: Installation
    quick: bool  # a tenth of the sizes: for trying the bench itself
    full: bool  # what takes long at its full length, too
    local: Path  # a folder on this machine that the user may read and write
    numbers: Iterator[int]  # for names that were never used before

    def scaled(self, count: int) -> int:
        """Return a size or number as this run wants it."""
        return count // 10 if self.quick else count

    @contextlib.contextmanager
    def address(self, client: Peer, round_trip_s: float) -> Iterator[Address | None]:
        """Provide the way to the server that has this round trip; None: the server itself."""
        if not round_trip_s:
            yield None
            return
        target = ("127.0.0.1", self.server.port)
        host, port = (RELAY_HOST, SMB_PORT) if client.name == "smbnetfs" else ("127.0.0.1", 0)
        with Relay.started(target, round_trip_s=round_trip_s, keep=KEPT, host=host, port=port) as relay:
            yield Address(host, relay.port)

    @contextlib.contextmanager
    def mounted(self, client: Peer, round_trip_s: float = 0.0) -> Iterator[Path]:
        """Mount the share afresh by a client."""
        with (
            self.address(client, round_trip_s) as address,
            client.mounted(self.server, self.user, address) as shown,
        ):
            yield shown


@dataclass(frozen=True, slots=True)
class Workload:
    """One line, or some, of the table of figures."""

    name: str
    about: str
    metrics: Sequence[Metric]
    run: Callable[[Stage, Peer, "Workload"], Figures]
    prepare: Callable[[Stage], None] = lambda stage: None
    bars: Sequence[Bar] = ()
    with_peers: bool = True
    memory_shows: Sequence[str] | None = None  # names at the top of the share; None: not run in memory
    pace: Callable[[Stage], Figures] | None = None  # by smbclient
    options: Options = field(default_factory=dict)
    round_trip_s: float = 0.0


class Measured:
    """The figures of one workload, as they come."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.values: dict[str, dict[str, list[float]]] = {}  # client, metric
        self.failures: dict[str, str] = {}  # by client

    def add(self, client: str, figures: Figures) -> None:
        """Take the figures of one round."""
        kept = self.values.setdefault(client, {})
        for name, value in figures.items():
            kept.setdefault(name, []).append(value)

    def median(self, client: str, metric: str) -> float | None:
        """Return the middle of a client's figures; None: there are none."""
        values = self.values.get(client, {}).get(metric)
        return statistics.median(values) if values else None

    def verdicts(self) -> list[Verdict]:
        """Judge every bar."""
        return [self._judge(bar) for bar in self.workload.bars]

    def best_peer(self, metric: Metric, *, durable: bool = False) -> tuple[str, float] | None:
        """Return the fastest peer that did it, and its figure."""
        names = [peer.name for peer in PEERS if peer.durable or not durable]
        figures = [(name, value) for name in names if (value := self.median(name, metric.name)) is not None]
        best = min if metric.lower_is_better else max
        return best(figures, key=lambda figure: figure[1], default=None)

    def _judge(self, bar: Bar) -> Verdict:
        metric = next(one for one in self.workload.metrics if one.name == bar.metric)
        ours = self.median(OURS, bar.metric)
        if bar.against is None:
            assert bar.at_most is not None
            wanted = f"at most {bar.at_most:g} {metric.unit}".rstrip()
            return Verdict(bar.metric, wanted, ours, None if ours is None else ours <= bar.at_most)
        if bar.against in ("peers", "durable peers"):
            found = self.best_peer(metric, durable=bar.against == "durable peers")
        else:
            other = self.median(bar.against, bar.metric)
            found = None if other is None else (bar.against, other)
        who = bar.against if found is None else found[0]
        wanted = f"at least {bar.factor:g} x {who}"
        if found is None or ours is None or not ours or not found[1]:
            return Verdict(bar.metric, wanted, None, None if ours is not None else False)
        value = found[1] / ours if metric.lower_is_better else ours / found[1]
        return Verdict(bar.metric, wanted, value, value >= bar.factor)

    def as_json(self) -> dict[str, Any]:
        """Return it for the file of figures."""
        workload = self.workload
        return {
            "workload": workload.name,
            "about": workload.about,
            "round_trip_s": workload.round_trip_s,
            "metrics": [
                {"name": one.name, "unit": one.unit, "about": one.about, "lower_is_better": one.lower_is_better}
                for one in workload.metrics
            ],
            "values": self.values,
            "failures": self.failures,
            "bars": [
                {"metric": one.metric, "wanted": one.wanted, "value": one.value, "met": one.met}
                for one in self.verdicts()
            ],
        }


def clients_for(stage: Stage, workload: Workload) -> list[Peer]:
    """Return who runs a workload: smbfuse first, then who is here of the others."""
    clients: list[Peer] = [Ours(stage.installation, workload.options)]
    if workload.with_peers:
        clients += [peer for peer in PEERS if peer.absent(stage.server) is None]
    if workload.memory_shows is not None:
        clients.append(Memory(stage.installation, workload.memory_shows))
    return clients


def measure(stage: Stage, workload: Workload, rounds: int, tell: Callable[[str], None]) -> Measured:
    """Run a workload so many rounds, each client once a round, another one first each time.

    A client that fails at all of it is not asked again; why is kept with the figures.
    """
    measured = Measured(workload)
    workload.prepare(stage)
    clients = clients_for(stage, workload)
    runs: list[tuple[str, Callable[[], Figures]]] = [
        (client.name, lambda client=client: workload.run(stage, client, workload))  # type: ignore[misc]
        for client in clients
    ]
    if workload.pace is not None:
        pace = workload.pace
        runs.append((SMBCLIENT, lambda: pace(stage)))
    for number in range(rounds):
        turn = number % len(runs)
        for name, run in runs[turn:] + runs[:turn]:
            if name in measured.failures and name not in measured.values:
                continue
            try:
                figures = run()
            except Failed as error:
                measured.failures[name] = str(error)
                tell(f"{workload.name}: {name} failed: {error}")
                figures = error.figures
            except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
                measured.failures[name] = str(error).strip()[-300:] or type(error).__name__
                tell(f"{workload.name}: {name} failed: {measured.failures[name]}")
                continue
            if not figures:
                continue
            measured.add(name, figures)
            tell(f"{workload.name} {number + 1}/{rounds} {name}: " + _shown(figures))
    return measured


def _shown(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def order_of(names: Collection[str]) -> list[str]:
    """Return clients in the order in which tables show them."""
    known = [OURS, *(peer.name for peer in PEERS), SMBCLIENT, MEMORY]
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))
