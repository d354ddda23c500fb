"""`smbfuse` with a server in memory instead of a network: python -m tests.daemon.program …, for what surrounds a mount.

The host in the source decides how the server behaves; $TRACE names a file that tells what was done to it.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

import trio

from smbfuse.cli.main import main
from smbfuse.config import Config
from smbfuse.daemon import service
from smbfuse.errors import AuthenticationFailed, ConnectFailed, NoSpace, NotFound, Reason
from smbfuse.share import ShareSource
from smbfuse.status import NtStatus
from tests.support.mem_grants import EVERYTHING
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource


def trace(text: str) -> None:
    """Add a line to the trace."""
    with Path(os.environ["TRACE"]).open("a") as file:
        file.write(f"{text}\n")


class TracedSource(MemSource):
    """Tells when it is left and with what in the file `written`, and takes its time for it if asked to."""

    farewell_s = 0.0

    async def aclose(self) -> None:
        for share in self.shares.values():
            if (written := share.root.children.get("written")) is not None:
                trace(f"written {len(written.data)} {hashlib.sha256(written.data).hexdigest()}")
        trace("leaving")
        await trio.sleep(self.farewell_s)
        trace("left")
        await super().aclose()


async def open_source(config: Config, nursery: trio.Nursery) -> ShareSource:
    """Stand in for `client.negotiate.open_source`."""
    password = config.login.password.reveal() if config.login.password is not None else None
    trace(f"login {config.login.user} {password}")
    share = MemShare()
    share.add("file", b"content")
    source = TracedSource(share)
    match config.target.host:
        case "nohost":
            raise ConnectFailed("no such host: 'nohost'", reason=Reason.NO_SUCH_HOST)
        case "noshare":
            raise NotFound("TREE_CONNECT: BAD_NETWORK_NAME", status=0xC00000CC)
        case "bug":
            raise ZeroDivisionError("a bug")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "never":
            await trio.sleep_forever()
        case "rotated" if password != "second":
            raise AuthenticationFailed("wrong password", reason=Reason.BAD_LOGIN)
        case "locked":
            raise AuthenticationFailed("the account is locked", reason=Reason.ACCOUNT_LOCKED)
        case "lame":
            source.farewell_s = 1000
        case "silent":
            share.delays["open"] = 1000
        case "slow":
            share.grants = EVERYTHING
            share.delays["write"] = 0.5
        case "full":
            share.grants = EVERYTHING
            share.fail("write", NoSpace("WRITE: DISK_FULL", status=NtStatus.DISK_FULL), times=1_000_000)
        case "deaf":
            share.grants = EVERYTHING
            share.delays["write"] = 1000
    return source


if __name__ == "__main__":
    service.open_source = open_source  # type: ignore[attr-defined,assignment]
    sys.exit(main())
