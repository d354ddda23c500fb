"""A Kerberos realm of the tests' own: one MIT KDC on loopback, with its database in a temporary folder.

Nothing of the machine's own Kerberos is read or changed: everything is told by KRB5_CONFIG and KRB5_KDC_PROFILE.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.folders import public_folder
from tests.support.samba import WITH_US, free_ports, wait_for
from tests.support.users import User

REALM: Final = "SMBFUSE.TEST"
PROGRAMS: Final = ("krb5kdc", "kadmin.local", "kdb5_util", "kinit")
START_TIMEOUT_S: Final = 20.0
TOOL_TIMEOUT_S: Final = 60.0

CONFIGURATION: Final = """[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
"""

PROFILE: Final = """[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/acl
    max_life = 1h
    disable_pac = true
  }}
[logging]
  kdc = FILE:{folder}/log
"""


def missing_kerberos() -> str | None:
    """Say why no login with a ticket can be tried here, None if nothing is in the way."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt install krb5-kdc krb5-admin-server krb5-user)"
    if importlib.util.find_spec("gssapi") is None:
        return "not installed: gssapi (pip install 'smbfuse[kerberos]')"
    return None


class Kdc:
    """One running KDC. Use `kdc()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = folder / "krb5.conf"
        self._configuration.write_text(CONFIGURATION.format(realm=REALM, port=self.port))
        self._profile = folder / "kdc.conf"
        self._profile.write_text(PROFILE.format(realm=REALM, port=self.port, folder=folder))

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads a client to this realm."""
        return {"KRB5_CONFIG": str(self._configuration)}

    def start(self) -> None:
        """Make an empty realm and serve it."""
        self._tool("kdb5_util", "create", "-s", "-P", secrets.token_hex(16))
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*WITH_US, shutil.which("krb5kdc") or "krb5kdc", "-n"],
                env=self._own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not wait_for(self._answers, START_TIMEOUT_S):
            raise RuntimeError(f"krb5kdc did not start:\n{(self.folder / 'output').read_text()}")

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def add_user(self, name: str, password: str) -> None:
        """Make a principal that can log in."""
        self._tool("kadmin.local", "-q", f'addprinc -pw "{password}" {name}@{REALM}')

    def add_service(self, name: str) -> Path:
        """Make a principal for a service and return the keytab that it is to have."""
        keytab = self.folder / "keytab"
        self._tool("kadmin.local", "-q", f"addprinc -randkey {name}@{REALM}")
        self._tool("kadmin.local", "-q", f"ktadd -k {keytab} {name}@{REALM}")
        return keytab

    def ticket(self, name: str, password: str, user: User, *, lifetime: str = "1h") -> Mapping[str, str]:
        """Get a ticket into a cache of its own, which is `user`'s; return the environment that leads to it."""
        cache = self.folder / f"cache-{secrets.token_hex(4)}"
        ran = subprocess.run(
            ["kinit", "-c", f"FILE:{cache}", "-l", lifetime, f"{name}@{REALM}"],
            env={"PATH": os.environ["PATH"], **self.environment},
            input=f"{password}\n",
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
        if ran.returncode != 0:
            raise RuntimeError(f"kinit: {ran.stderr}")
        user.owns(cache)
        return {**self.environment, "KRB5CCNAME": f"FILE:{cache}"}

    def _own_environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], **self.environment, "KRB5_KDC_PROFILE": str(self._profile)}

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _tool(self, program: str, *arguments: str) -> None:
        ran = subprocess.run(
            [program, *arguments],
            env=self._own_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
        # kadmin.local ends with 0 whatever becomes of a query.
        if ran.returncode != 0 or "while" in ran.stderr:
            raise RuntimeError(f"{program} {' '.join(arguments[:2])}: {ran.stderr}{ran.stdout}")


@contextlib.contextmanager
def kdc() -> Iterator[Kdc]:
    """Run a KDC in a temporary folder of its own; both are gone at the end."""
    with public_folder("smbfuse-kdc-") as folder:
        one = Kdc(folder)
        try:
            one.start()
            yield one
        finally:
            one.stop()
