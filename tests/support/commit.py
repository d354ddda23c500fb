"""Which commit a result speaks of."""

import subprocess

from tests.support.users import ROOT


def commit() -> str:
    """Return the clone's commit, with a + if its files differ from it; 'unknown' where there is no git or no clone."""
    described = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        ran = subprocess.run(described, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        return "unknown"
    return ran.stdout.strip() or "unknown"
