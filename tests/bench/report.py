"""The figures of a run: on the terminal, as JSON, as docs/benchmarks.md, and as a picture in it."""

import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from tests.bench.clients import MEMORY, OURS
from tests.bench.peers import PEERS
from tests.bench.trips import HEADINGS, Counted
from tests.bench.workload import Measured, Metric, Verdict, order_of
from tests.support.commit import commit
from tests.support.samba import SambaServer
from tests.support.users import ROOT

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURE: Final = ROOT / "docs" / "benchmarks.svg"
FIGURES: Final = ROOT / "docs" / "benchmarks.json"
GIB: Final = 1 << 30


def machine(server: SambaServer) -> dict[str, str]:
    """Describe what a run was made on."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    smbd = server.programs.path("smbd") or "smbd"
    version = subprocess.run([smbd, "--version"], capture_output=True, text=True, timeout=20, check=False)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "processors": f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) * 1024 / GIB:.1f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "samba": version.stdout.strip().removeprefix("Version "),
        "load": load,
    }


def absent(server: SambaServer) -> list[str]:
    """Say which peers are not here, and why."""
    return [f"absent: {reason}" for peer in PEERS if (reason := peer.absent(server)) is not None]


def as_json(
    measured: Sequence[Measured], counted: Sequence[Counted], server: SambaServer, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return all figures of a run with what is needed to compare them later."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "machine": machine(server),
        **settings,
        "absent": absent(server),
        "workloads": [one.as_json() for one in measured],
        "trips": [one.as_json() for one in counted],
    }


def spread(values: Sequence[float]) -> str:
    """Return the middle of some figures, with the least and the greatest if there are several."""
    middle = number(statistics.median(values))
    return middle if len(values) < 2 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(one: Measured, metric: Metric, client: str) -> float | None:
    """Return how many times better smbfuse is than another client at one figure; None: one of them has none."""
    ours, theirs = one.median(OURS, metric.name), one.median(client, metric.name)
    if not ours or not theirs or client == OURS:
        return None
    return theirs / ours if metric.lower_is_better else ours / theirs


def verdict_text(verdict: Verdict) -> str:
    """Return a bar and what became of it."""
    said = {True: "met", False: "MISSED", None: "nothing to compare with"}[verdict.met]
    value = "" if verdict.value is None else f"{number(verdict.value)}, "
    return f"{verdict.wanted}: {value}{said}"


def _rows(measured: Iterable[Measured]) -> Iterator[tuple[Measured, Metric, str, str, str, str]]:
    """Yield a line for each figure of each client: the figure, the ratio, and on smbfuse's own the bars."""
    for one in measured:
        for metric in one.workload.metrics:
            bars = "; ".join(verdict_text(verdict) for verdict in one.verdicts() if verdict.metric == metric.name)
            for client in order_of({*one.values, *one.failures}):
                if metric.name in one.values.get(client, {}):
                    figure = f"{spread(one.values[client][metric.name])} {metric.unit}"
                elif client in one.failures:
                    figure = f"failed: {' '.join(one.failures[client].split())[:100]}"
                else:
                    continue
                times = ratio(one, metric, client)
                compared = "" if times is None else f"{times:.2f} x"
                yield one, metric, client, figure, compared, bars if client == OURS else ""


def figures_table(measured: Sequence[Measured]) -> Table:
    """Return the figures as people read them on a terminal."""
    table = Table(title="medians (least to greatest), and how many times better smbfuse is")
    for heading in ("workload", "figure", "client", "median", "smbfuse is", "bars"):
        table.add_column(heading)
    last: tuple[Any, ...] = ()
    for one, metric, client, figure, compared, bars in _rows(measured):
        new_workload, new_metric = last[:1] != (one,), last != (one, metric)
        if new_workload and last:
            table.add_section()
        last = (one, metric)
        colour = "[red]" if "MISSED" in bars else "[green]" if "met" in bars else ""
        table.add_row(
            one.workload.about if new_workload else "",
            metric.about if new_metric else "",
            client,
            figure,
            compared,
            colour + bars,
        )
    return table


def publish(figures: dict[str, Any], measured: Sequence[Measured], counted: Sequence[Counted]) -> None:
    """Write docs/benchmarks.md, its picture and its figures."""
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw(measured, PICTURE)
    PAGE.write_text("\n".join(_page(figures, measured, counted)) + "\n", encoding="utf-8")


def _page(figures: dict[str, Any], measured: Sequence[Measured], counted: Sequence[Counted]) -> Iterator[str]:
    here = figures["machine"]
    yield "# Benchmarks"
    yield ""
    yield f"Generated by `./dev bench --publish` on {figures['when'][:10]}, commit {figures['commit']}; not edited."
    yield ""
    yield (
        f"{here['processors']}, {here['memory']}, Linux {here['kernel']}, Python {here['python']}, "
        f"Samba {here['samba']} on loopback, load before {here['load']}. Everything in one run, {figures['rounds']} "
        "rounds, the clients taking turns, each on a fresh mount of an ordinary user; medians, in brackets the least "
        "and the greatest. *smbfuse is* so many times as fast."
    )
    if figures["quick"]:
        yield ""
        yield "**A tenth of the sizes: made to try the bench, not to be quoted.**"
    for line in figures["absent"]:
        yield ""
        yield line.capitalize() + "."
    yield ""
    yield "![how many times as fast smbfuse is](benchmarks.svg)"
    for one in measured:
        yield from ["", f"## {one.workload.about[:1].upper()}{one.workload.about[1:]}", ""]
        yield "| figure | client | median | smbfuse is | wanted |"
        yield "|---|---|---|---|---|"
        for _, metric, client, figure, compared, bars in _rows([one]):
            yield f"| {metric.about} | {client} | {figure.replace('|', ' ')} | {compared} | {bars} |"
    if counted:
        yield from ["", "## Round trips and requests", ""]
        yield "Dependent round trips of one command on a fresh mount, counted in a relay's record; `after idling`: on a"
        yield "mount that nobody has used for longer than anything is believed."
        yield ""
        yield "| " + " | ".join(HEADINGS) + " |"
        yield "|---" * len(HEADINGS) + "|"
        for count in counted:
            yield "| " + " | ".join(count.cells()) + " |"


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Draw how many times as fast smbfuse is, a group of bars for each figure, on a logarithmic scale."""
    import matplotlib  # only who draws needs it: the `bench` extra

    matplotlib.use("svg")
    from matplotlib import pyplot

    compared = [
        (f"{one.workload.name}: {metric.name}", one, metric)
        for one in measured
        for metric in one.workload.metrics
        if any(ratio(one, metric, client) is not None for client in one.values)
    ]
    if not compared:
        path.unlink(missing_ok=True)
        return
    clients = [name for name in order_of({name for one in measured for name in one.values}) if name != OURS]
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.16 * len(compared) * (len(clients) + 1)))
    height = 0.8 / max(1, len(clients))
    for place, client in enumerate(clients):
        times = [ratio(one, metric, client) or 0.0 for _, one, metric in compared]
        middles = [index + place * height for index in range(len(compared))]
        label = f"{client} (the limit)" if client == MEMORY else client
        # Bars begin at 1, so that what is slower points to the left; who has no figure has no bar.
        axes.barh(middles, [value - 1 if value else 0.0 for value in times], height, left=1, label=label)
    axes.set_yticks([index + 0.4 - height / 2 for index in range(len(compared))], [name for name, _, _ in compared])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("smbfuse is so many times as fast")
    axes.legend(loc="lower right", fontsize="small")
    figure.tight_layout()
    matplotlib.rcParams["svg.hashsalt"] = "smbfuse"  # the same figures give the same picture
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
