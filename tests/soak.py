"""`./dev soak`: the tests of full size and length, a million strange inputs for each decoder, and a record of the run.

The record says which commit was tried, when, with which seed and how long each test took; docs/results/ keeps it.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz import run as fuzz
from tests.support.commit import commit
from tests.support.users import ROOT

RESULTS: Final = ROOT / "docs" / "results"
MATRIX: Final = "tests/faults"  # promises that are kept to the second: before all others, with nothing beside them
LONGEST: Final = "tests/mounts/test_endurance.py"  # half hours that mostly wait: beside all others, by two of its own


def rows(report: Path) -> Iterator[str]:
    """Yield one line of a Markdown table for each test of a JUnit report."""
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "FAILED" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        yield f"| {case.get('classname')}::{case.get('name')} | {outcome} | {float(case.get('time', 0)):.1f} |"


def run(folder: Path, seed: str, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run the matrix, then the longest tests beside all others; return an exit code and the lines of the record.

    `arguments` are options of pytest's. A part of which they select nothing has not failed; all of it has.
    """
    command = [sys.executable, "-m", "pytest", "--soak", "-m", "soak", f"--hypothesis-seed={seed}"]
    command += ["-o", "faulthandler_timeout=0"]  # a test of an hour is not a hung one
    matrix, longest, others = reports = [folder / name for name in ("matrix.xml", "longest.xml", "others.xml")]
    codes = [subprocess.run([*command, f"--junitxml={matrix}", *arguments, MATRIX], cwd=ROOT, check=False).returncode]
    with (folder / "longest.txt").open("w+") as said:
        beside = [*command, f"--junitxml={longest}", *arguments, "-n", "2", "--dist", "load", LONGEST]
        with subprocess.Popen(beside, cwd=ROOT, stdout=said, stderr=said) as running:
            command += [f"--junitxml={others}", f"--ignore={MATRIX}", f"--ignore={LONGEST}", *arguments]
            codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
        codes.append(running.returncode)
        said.seek(0)
        print(said.read())
    lines = [row for report in reports if report.exists() for row in rows(report)]
    nothing = pytest.ExitCode.NO_TESTS_COLLECTED
    failed = [code for code in codes if code not in (0, nothing)]
    return failed[0] if failed else 0 if lines else nothing, lines


def main(arguments: Sequence[str]) -> int:
    """Run it all, write docs/results/DATE-soak.md and DATE-fuzz.md; 0 if everything passed."""
    seed = str(int.from_bytes(os.urandom(4)))
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        code, lines = run(Path(folder), seed, arguments)
    day = time.strftime("%Y-%m-%d", time.gmtime(began))
    text = [
        f"# Soak of {day}",
        "",
        f"Commit {commit()}, seed {seed}, {time.time() - began:.0f} s in all, exit code {code}; "
        f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| test | outcome | seconds |",
        "|---|---|---|",
        *lines,
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{day}-soak.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"written: {path.relative_to(ROOT)}")
    return code or fuzz.main(["--seed", seed, "--output", str(RESULTS)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
