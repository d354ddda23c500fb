"""Servers that share no code with Samba: impacket, scapy and node-smb-server, each in a process of its own.

Run as a program, this file is one of the two that are written in Python: neither is ever imported by the tests' own
process, where scapy would warn and both would cost seconds.

    python -m tests.support.independent impacket PORT FOLDER {smb1|smb2}
    python -m tests.support.independent scapy PORT FOLDER {plain|sealed}
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.support.folders import public_folder
from tests.support.samba import WITH_US, free_ports, wait_for
from tests.support.users import ROOT, User

USER: Final = "user"
PASSWORD: Final = "SecREt01"
# Of that password, as node-smb-server wants it configured.
LM_HASH: Final = "ff3750bcc2b22412c2265b23734e0dac"
NT_HASH: Final = "cd06ca7c7e10c99b1d33b7485a2ed808"
SHARE: Final = "share"
START_TIMEOUT_S: Final = 30.0  # importing scapy takes seconds on a busy machine
NODE_SERVER: Final = ROOT / ".node" / "node_modules" / "node-smb-server" / "index.js"  # ./dev installs it, given npm


@dataclass(frozen=True, slots=True)
class IndependentServer:
    """A running server with one share."""

    folder: Path  # its own files; what it serves is elsewhere
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The share as smbfuse's first argument."""
        return f"//127.0.0.1/{SHARE}"

    def credentials(self, user: User) -> Path:
        """Write a `credentials=` file that only `user` can read, and return its path."""
        path = self.folder / "credentials"
        path.touch(mode=0o600)
        path.write_text(f"username={USER}\npassword={PASSWORD}\n")
        return user.owns(path)

    def log_text(self) -> str:
        """Return the end of what the server has written, for the message of a failed test."""
        return (self.folder / "log").read_text(errors="replace")[-6000:]


def missing(name: str) -> str | None:
    """Say why the server `name` cannot be started here, None if it can."""
    if name == "node":
        if shutil.which("node") is None:
            return "no node: node-smb-server is tried only where npm can install it"
        return None if NODE_SERVER.exists() else "no node-smb-server in .node: ./dev test installs it where npm is"
    return None if find_spec(name) is not None else f"no {name}: pip install 'smbfuse[test]'"


@contextlib.contextmanager
def independent_server(name: str, folder: Path, *words: str) -> Iterator[IndependentServer]:
    """Serve `folder` as a share by the server `name` ("impacket", "scapy", "node") on a free port of 127.0.0.1.

    `words` go to the server's program, see above. Raises: RuntimeError if it does not listen in time.
    """
    with public_folder("smbfuse-independent-") as own:
        (port,) = free_ports(1)
        command = _node_command(own, port, folder) if name == "node" else _python_command(name, port, folder, words)
        with (
            (own / "log").open("wb") as log,
            subprocess.Popen(
                [*WITH_US, *command],
                cwd=own if name == "node" else ROOT,  # where node-smb-server looks for its configuration, and logs
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            server = IndependentServer(own, port, process)
            try:
                wait_for(lambda: process.poll() is not None or _listens(port), START_TIMEOUT_S)
                if not _listens(port):
                    raise RuntimeError(f"{name} did not start:\n{server.log_text()}")
                yield server
            finally:
                process.kill()


def _python_command(name: str, port: int, folder: Path, words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tests.support.independent", name, str(port), str(folder), *words]


def _node_command(own: Path, port: int, folder: Path) -> list[str]:
    configuration = {
        "listen": {"host": "127.0.0.1", "port": port},
        "domainName": "WORKGROUP",
        "allowAnonymous": False,
        "smb2Support": False,
        "extendedSecurity": True,
        "users": {USER: {"lmHash": LM_HASH, "ntlmHash": NT_HASH}},
        "shares": {SHARE.upper(): {"backend": "fs", "description": "", "path": str(folder)}},
    }
    (own / "config.json").write_text(json.dumps(configuration))
    return ["node", str(NODE_SERVER)]


def _listens(port: int) -> bool:
    """Tell whether something listens, without connecting: no server is to meet a client that says nothing first."""
    listening = "0A"
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == listening and local.endswith(wanted):
            return True
    return False


# -- the programs


def serve_impacket(port: int, folder: str, family: str) -> None:
    """Serve by impacket: `family` is "smb1" or "smb2", which is SMB 2.0.2."""
    from impacket.ntlm import compute_lmhash, compute_nthash
    from impacket.smbserver import SimpleSMBServer

    server = SimpleSMBServer(listenAddress="127.0.0.1", listenPort=port)
    server.addShare(SHARE.upper(), folder, "")
    server.setSMB2Support(family == "smb2")
    server.addCredential(USER, 0, compute_lmhash(PASSWORD), compute_nthash(PASSWORD))
    server.start()


def serve_scapy(port: int, folder: str, protection: str) -> None:
    """Serve by scapy, SMB 2.0.2 to 3.1.1; with `protection` "sealed" every session must be encrypted."""
    from scapy.layers.ntlm import NTLMSSP, MD4le
    from scapy.layers.smbserver import SMBShare, smbserver
    from scapy.layers.spnego import SPNEGOSSP

    smbserver(
        shares=[SMBShare(name=SHARE, path=folder)],
        iface="lo",
        port=port,
        verb=0,
        ssp=SPNEGOSSP([NTLMSSP(IDENTITIES={USER: MD4le(PASSWORD)})]),
        REQUIRE_SIGNATURE=False,  # by default it demands it of everybody who logs in
        REQUIRE_ENCRYPTION=protection == "sealed",
    )
    while True:
        time.sleep(3600)  # its threads serve


if __name__ == "__main__":
    program, port_text, *rest = sys.argv[1:]
    {"impacket": serve_impacket, "scapy": serve_scapy}[program](int(port_text), *rest)
