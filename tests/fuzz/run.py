"""Fuzz the decoders, the engines and the logins, and write a dated result.

    python -m tests.fuzz.run --inputs 1000000 --seed N [--decoder NAME]... [--jobs 2] [--output docs/results]

The result names the seed: the same seed gives the same inputs. Ends with 1 if anything failed.
"""

import argparse
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fuzz.decoders import Target
from tests.fuzz.decoders import targets as decoders
from tests.fuzz.engines import targets as engines
from tests.fuzz.runner import Outcome, fuzz
from tests.support.commit import commit


def all_targets() -> dict[str, Target]:
    """Return everything that can be fuzzed, by name."""
    return {target.name: target for target in (*decoders(), *engines())}


def run_one(task: tuple[str, int, str]) -> Outcome:
    """Fuzz one target; what a worker process does."""
    name, inputs, seed = task
    target = all_targets()[name]
    return fuzz(target, max(1, round(inputs * target.share)), f"{seed}:{name}")


def run(names: Sequence[str], inputs: int, seed: str, jobs: int) -> list[Outcome]:
    """Fuzz the targets called `names` in `jobs` processes, telling about each as it ends."""
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
        for outcome in pool.imap_unordered(run_one, [(name, inputs, seed) for name in names]):
            state = f"{len(outcome.failures)} FAILED" if outcome.failures else "ok"
            print(f"{outcome.name}: {outcome.inputs} inputs, {outcome.seconds:.0f} s, {state}", file=sys.stderr)
            for failure in outcome.failures:
                print(f"    {failure}", file=sys.stderr)
            outcomes.append(outcome)
    return sorted(outcomes, key=lambda outcome: outcome.name)


def report(outcomes: Sequence[Outcome], seed: str, seconds: float) -> dict[str, Any]:
    """Return the result as plain data."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "seed": seed,
        "seconds": round(seconds),
        "inputs": sum(outcome.inputs for outcome in outcomes),
        "failures": sum(len(outcome.failures) for outcome in outcomes),
        "targets": [outcome.as_json() for outcome in outcomes],
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a page for people."""
    lines = [
        "# Mutated inputs",
        "",
        f"{result['date']}, commit {result['commit']}, Python {result['python']}, seed {result['seed']}: "
        f"{result['inputs']:,} inputs in {result['seconds']:,} s, {result['failures']} failures.",
        "",
        f"Again: `python -m tests.fuzz.run --seed {result['seed']}`. A value or an error that callers expect is right; "
        "any other exception, or too much time or memory, is a failure.",
        "",
        "| target | inputs | values | refused | failures | seconds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['name']} | {one['inputs']:,} | {one['values']:,} | {one['refused']:,} | {len(one['failures'])} "
        f"| {one['seconds']:.0f} |"
        for one in result["targets"]
    ]
    for one in result["targets"]:
        lines += [f"\n`{one['name']}`: {failure}" for failure in one["failures"]]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each decoder (default: a million)")
    parser.add_argument("--seed", default=str(time.time_ns() // 1_000_000_000), help="default: the time")
    parser.add_argument("--decoder", action="append", metavar="NAME", help="only this one, or those it begins; again")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes (default: all cores)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write FOLDER/DATE-fuzz.md and .json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of markdown")
    chosen = parser.parse_args(arguments)
    names = [name for name in all_targets() if not chosen.decoder or name.startswith(tuple(chosen.decoder))]
    if not names:
        parser.error(f"no such decoder: {', '.join(chosen.decoder)}")
    began = time.monotonic()
    result = report(run(names, chosen.inputs, chosen.seed, chosen.jobs), chosen.seed, time.monotonic() - began)
    texts = {".json": json.dumps(result, indent=2) + "\n", ".md": markdown(result)}
    if chosen.output is not None:
        chosen.output.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            (chosen.output / f"{result['date'][:10]}-fuzz{suffix}").write_text(text, encoding="utf-8")
    print(texts[".json" if chosen.json else ".md"], end="")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
