"""`smbfuse release`: whoever waits for a server that does not come gets an error now."""

from collections.abc import Mapping, Sequence

from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.cli.status import ask_mount, socket_folders
from smbfuse.fuse import mountinfo


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Exit:
    """Release those who wait in one mount.  Raises: CannotMount."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise CannotMount(Exit.USAGE, "usage: smbfuse release MOUNTPOINT")
    folders = socket_folders(environ)
    ask_mount(mountinfo.resolve(arguments[0]), folders, "release", lambda answer: answer.get("released"), bool)
    return Exit.OK
