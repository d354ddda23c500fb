"""`./dev demo`: a throwaway Samba share on loopback, mounted, listed, copied from, compared, unmounted.

Run as root, it mounts as the tests' ordinary user, because that is what smbfuse is for.
"""

import sys
import time
from pathlib import Path
from typing import Final

from tests.conftest import missing_for_mounts, missing_samba
from tests.support.mounts import Mount, mount_options, mounted, target
from tests.support.samba import FOLDER_NAME, SambaServer, samba_server
from tests.support.tree import MIB, grow, hashes
from tests.support.users import installation_for, ordinary_user

BOLD: Final = "\033[1m" if sys.stdout.isatty() else ""
PLAIN: Final = "\033[0m" if sys.stdout.isatty() else ""
CANNOT: Final = 3


def show(command: str, output: str = "") -> None:
    """Print a command as a shell would, and what it said."""
    print(f"{BOLD}$ {command}{PLAIN}")
    if output:
        print(output.rstrip())


def fill(server: SambaServer) -> Path:
    """Put a few files on the share and return the folder that the demonstration copies."""
    folder = server.root / FOLDER_NAME
    folder.mkdir()
    (server.root / "letter.txt").write_text("Written on a server, read through FUSE by an ordinary user.\n")
    grow(folder, files=40, total=16 * MIB, seed=1)
    return folder


def tour(mount: Mount, folder: Path) -> bool:
    """Look around in the mount and copy `folder` out of it; return whether every byte arrived."""
    point = mount.point
    show(f'ls -l "{point}"', mount.run("ls", "-l", point))
    show(f'cat "{point}/letter.txt"', mount.run("cat", point / "letter.txt"))
    show(f'df -h "{point}"', mount.run("df", "-h", point))
    copy = mount.user.owns_new(point.parent / "copy")
    began = time.monotonic()
    show(f'cp -a "{point / folder.name}" "{copy}"', mount.run("cp", "-a", point / folder.name, copy))
    took_s = time.monotonic() - began
    wanted, got = hashes(folder), hashes(copy / folder.name)
    size = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
    if got != wanted:
        wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
        print(f"NOT equal to the server's own: {', '.join(wrong)}")
        return False
    print(f"{len(got)} files, {size / MIB:.1f} MiB in {took_s:.2f} s: SHA-256 of each equal to the server's own")
    show("smbfuse status", mount.run("env", "COLUMNS=120", mount.installation.program, "status"))
    return True


def main() -> int:
    """Run the demonstration; 0 if every byte arrived and nothing was left behind."""
    for reason in (missing_samba(), missing_for_mounts()):
        if reason is not None:
            print(f"The demonstration cannot run here: {reason}.", file=sys.stderr)
            return CANNOT
    user = ordinary_user()
    with samba_server() as server, installation_for(user) as installation:
        folder = fill(server)
        url, options = target(server, {})
        print(f"A Samba server listens on 127.0.0.1:{server.port}; {user.name} mounts its share.\n")
        with mounted(url, options, user=user, installation=installation) as mount:
            show(f'smbfuse {url} "{mount.point}" -o {mount_options(options)}')
            well = tour(mount, folder)
            show(f'fusermount3 -u "{mount.point}"')
            code = mount.unmount()
        gone = not mount.mounted() and code == 0
    print("\nUnmounted; server and folders are gone." if gone else "\nThe mount did not end as it should.")
    return 0 if well and gone else 1


if __name__ == "__main__":
    sys.exit(main())
