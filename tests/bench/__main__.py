"""`./dev bench` and `./dev profile`: speed beside the others, and round trips; tables and figures."""

import argparse
import contextlib
import dataclasses
import itertools
import json
import pstats
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.bench.clients import Ours
from tests.bench.peers import fixed_ports
from tests.bench.report import PAGE, as_json, figures_table, publish
from tests.bench.transfers import TRANSFERS
from tests.bench.trees import TREES
from tests.bench.trips import DIALECTS, Counted, as_table, count_trips
from tests.bench.workload import Measured, Stage, measure
from tests.conftest import missing_for_mounts, missing_samba
from tests.support.folders import public_folder
from tests.support.samba import samba_server
from tests.support.users import Installation, installation_for, ordinary_user

WORKLOADS: Final = {workload.name: workload for workload in (*TRANSFERS, *TREES)}
PROFILED_FUNCTIONS: Final = 30

# Each mount of a profiled workload leaves one profile in the folder that PROFILE names.
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


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what was asked for; ends the program where that is nonsense."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    named = f"{', '.join(WORKLOADS)}; default: all, and the round trips. With --trips: words of operations"
    parser.add_argument("names", nargs="*", metavar="NAME", help=named)
    parser.add_argument(
        "--trips", action="store_true", help="count round trips and requests by operation, nothing else"
    )
    parser.add_argument("--vers", action="append", default=[], help="a dialect as vers= names it; may be repeated")
    parser.add_argument("--rounds", "--runs", type=int, default=5, help="of which the median counts (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--full", action="store_true", help="the full 5 GiB where memory is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--publish", action="store_true", help=f"write {PAGE.name}, its picture and its figures")
    parser.add_argument("--profile", action="store_true", help="run one of them under a profiler instead")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in WORKLOADS]
    if unknown and not options.trips:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if options.rounds < 1:
        parser.error("at least one round")
    return options


def profile(stage: Stage, name: str) -> None:
    """Run one workload once, on smbfuse alone."""
    workload = WORKLOADS[name]
    workload.prepare(stage)
    workload.run(stage, Ours(stage.installation, workload.options), workload)


def compile_ahead(installation: Installation) -> None:
    """Have the package's modules compiled, as an installed package's are: the user that mounts may not do it."""
    where = [installation.interpreter, "-c", "import smbfuse; print(smbfuse.__path__[0])"]
    environment = dict(installation.environment)
    folder = subprocess.run(where, env=environment, cwd="/", check=True, capture_output=True, text=True, timeout=60)
    command = [installation.interpreter, "-m", "compileall", "-q", folder.stdout.strip()]
    subprocess.run(command, env=environment, cwd="/", check=False, capture_output=True, timeout=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 if every bar and target held, 1 if one did not, 3 if nothing can be measured."""
    options = parsed(arguments)
    for reason in (missing_samba(), missing_for_mounts()):
        if reason is not None:
            print(f"Nothing can be measured here: {reason}.", file=sys.stderr)
            return 3
    console = Console(width=None if sys.stdout.isatty() else 200)  # a log is as wide as its longest row
    user = ordinary_user()
    everything = not options.names and not options.trips and not options.profile
    measured: list[Measured] = []
    counted: list[Counted] = []

    def tell(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False)

    def figures() -> dict[str, Any]:
        settings = {"rounds": options.rounds, "quick": options.quick, "full": options.full}
        return as_json(measured, counted, server, settings)

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(samba_server(also_ports=fixed_ports()))
        user.owns(server.root)
        installation = stack.enter_context(installation_for(user))
        compile_ahead(installation)
        if options.profile:
            folder = stack.enter_context(public_folder("smbfuse-profile-"))
            installation = stack.enter_context(profiling(installation, folder))
        local = user.owns(stack.enter_context(public_folder("smbfuse-bench-")))
        stage = Stage(server, user, installation, options.quick, options.full, local, itertools.count())
        if not options.trips:
            for name in [name for name in WORKLOADS if everything or name in options.names]:
                if options.profile:
                    profile(stage, name)
                else:
                    measured.append(measure(stage, WORKLOADS[name], options.rounds, tell))
                    if options.publish:  # what comes later may be interrupted: all of it takes hours
                        publish(figures(), measured, counted)
        if options.trips or everything:
            own = stack.enter_context(samba_server())
            dialects = options.vers or DIALECTS
            wanted = options.names if options.trips else ()
            counted = count_trips(own, user, installation, wanted=wanted, dialects=dialects, tell=tell)
        everything_told = figures()
    if options.profile:
        return 0
    if measured:
        console.print(figures_table(measured))
        for line in everything_told["absent"]:
            console.print(line, markup=False)
    if counted:
        console.print(as_table(counted))
    if options.json:
        options.json.write_text(json.dumps(everything_told, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publish(everything_told, measured, counted)
    missed = [verdict for one in measured for verdict in one.verdicts() if verdict.met is False]
    return 0 if all(one.met for one in counted) and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
