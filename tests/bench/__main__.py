"""`./dev bench` and `./dev profile`: run the rows, print a table, keep the figures as JSON, fail below a floor."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import pstats
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.peers import fixed_ports
from tests.bench.rows import ROWS, Bench, Result
from tests.bench.trips import DIALECTS, Counted, as_table, count_trips
from tests.conftest import missing_for_mounts, missing_samba
from tests.support.commit import commit
from tests.support.folders import public_folder
from tests.support.samba import samba_server
from tests.support.users import Installation, installation_for, ordinary_user

PROFILED_FUNCTIONS: Final = 30

# Each mount of a profiled row leaves one profile in the folder that PROFILE names.
PROFILED_START: Final = """#!/bin/sh
exec '{interpreter}' -c '
import cProfile, os, sys
from smbfuse.cli.main import main
profile = cProfile.Profile()
try:
    code = profile.runcall(main)
finally:
    profile.dump_stats(os.path.join(os.environ["PROFILE"], str(os.getpid())))
sys.exit(code)' "$@"
"""


def print_table(console: Console, results: Sequence[Result]) -> None:
    """Show the rows as people read them."""
    table = Table(title="smbfuse beside the others, same server, same run")
    for heading in ("row", "smbfuse", "others", "value", "wanted", ""):
        table.add_column(heading)
    for one in results:
        wanted = f">= {one.floor:g}" if one.floor is not None else f"<= {one.ceiling:g}" if one.ceiling else "-"
        verdict = "[green]ok[/]" if one.passed else "[red]MISSED[/]"
        table.add_row(one.row, one.ours, one.theirs, f"{one.value:.3g} {one.unit}", wanted, verdict)
    console.print(table)
    for one in results:
        for note in one.notes:
            console.print(f"  {note}", markup=False)


def write_json(path: Path, results: Sequence[Result], counted: Sequence[Counted] = ()) -> None:
    """Keep the figures with what is needed to compare them later."""
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    rows = [{**dataclasses.asdict(one), "passed": one.passed} for one in results]
    text = {
        "trips": [one.as_json() for one in counted],
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "machine": machine,
        "rows": rows,
    }
    path.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def profiling(installation: Installation, folder: Path) -> Iterator[Installation]:
    """Provide an installation whose mounts leave their profiles in `folder`; print them together at the end."""
    folder.chmod(0o777)
    program = folder / "smbfuse"
    program.write_text(PROFILED_START.format(interpreter=installation.interpreter))
    program.chmod(0o755)
    environment = {**installation.environment, "PROFILE": str(folder)}
    yield dataclasses.replace(installation, program=program, environment=environment)
    dumps = [str(path) for path in folder.iterdir() if path.name.isdigit()]
    if dumps:
        pstats.Stats(*dumps).sort_stats("tottime").print_stats(PROFILED_FUNCTIONS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows asked for; 0 if every floor held, 1 if one did not, 3 if nothing can be measured here."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; default: all. With --trips: words of operations"
    )
    parser.add_argument("--trips", action="store_true", help="count round trips and requests instead, by operation")
    parser.add_argument("--vers", action="append", default=[], help="a dialect as vers= names it; may be repeated")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of which the median counts (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--profile", action="store_true", help="run one row under a profiler instead of judging it")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown and not options.trips:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    for reason in (missing_samba(), missing_for_mounts()):
        if reason is not None:
            print(f"Nothing can be measured here: {reason}.", file=sys.stderr)
            return 3
    console = Console(width=None if sys.stdout.isatty() else 140)  # a log is as wide as its longest row
    user = ordinary_user()
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(samba_server(also_ports=fixed_ports()))
        installation = stack.enter_context(installation_for(user))
        if options.trips:
            dialects = options.vers or DIALECTS
            with samba_server() as own:
                counted = count_trips(own, user, installation, wanted=options.rows, dialects=dialects)
            Console(width=None if sys.stdout.isatty() else 240).print(as_table(counted))
            if options.json:
                write_json(options.json, (), counted)
            return 0 if all(one.met for one in counted) else 1
        if options.profile:
            folder = stack.enter_context(public_folder("smbfuse-profile-"))
            installation = stack.enter_context(profiling(installation, folder))
        bench = Bench(server, user, installation, 1 if options.profile else options.runs, options.quick)
        for name in options.rows or ROWS:
            for vers in options.vers or ["", *(["1.0"] if name == "find" else [])]:
                console.print(f"measuring {name} {vers}".rstrip(), style="dim")
                results.append(ROWS[name](bench, {"vers": vers} if vers else {}))
    if not options.profile:
        print_table(console, results)
        if options.json:
            write_json(options.json, results)
    return 0 if options.profile or all(one.passed for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
