"""What holds for every test: the log policy, what a test needs of the machine, and the servers it may use."""

import contextlib
import logging
import os
import shutil
import signal
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings

from tests.support.mounts import Mount, Options, mounted
from tests.support.samba import FOLDER_NAME, SambaServer, samba_server, smbd_path
from tests.support.users import Installation, User, installation_for, ordinary_user

FUSE_DEVICE: Final = Path("/dev/fuse")

# A shared machine makes deadlines of milliseconds fail by chance; and what fails must fail for everybody, every time.
# `./dev soak` looks for new examples, by a seed that it records.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)


# -- what a test needs of the machine


def missing_for_mounts() -> str | None:
    """Say why no mount can be made here, None if nothing is in the way."""
    if not FUSE_DEVICE.exists():
        return "there is no /dev/fuse: the kernel has no FUSE, or this container was not given the device"
    user = ordinary_user()
    if not user.current and not FUSE_DEVICE.stat().st_mode & stat.S_IWOTH:
        return f"{user.name} may not open /dev/fuse: chmod 666 /dev/fuse"
    if user.current and not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        return "we may not open /dev/fuse: ask root for chmod 666 /dev/fuse"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed: apt install fuse3"
    return None


def missing_samba() -> str | None:
    """Say why no Samba server can be started here, None if nothing is in the way."""
    absent = [name for name in ("pdbedit", "smbclient", "smbstatus") if shutil.which(name) is None]
    if smbd_path() is None:
        absent.append("smbd")
    return f"not installed: {', '.join(absent)} (apt install samba smbclient)" if absent else None


def missing_root() -> str | None:
    """Say that we are not root, None if we are."""
    return None if os.geteuid() == 0 else "only root can do this"


NEEDS: Final[dict[str, Callable[[], str | None]]] = {
    "mounts": missing_for_mounts,
    "samba": missing_samba,
    "root": missing_root,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the tests of full size and length too")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("search" if config.getoption("--soak") else "same")
    # `timeout` and CI end a run with SIGTERM: servers and mounts are to be cleaned up then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts us in the background has SIGINT ignored, and what tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="full sizes and lengths: ./dev soak")
    for item in items:
        if item.get_closest_marker("soak") and not config.getoption("--soak"):
            item.add_marker(skip)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, missing in NEEDS.items():
        if item.get_closest_marker(name) is None:
            continue
        reason = missing()
        if reason is None:
            continue
        # A machine of ours that lost a device must not look green: there the absence is a failure.
        if os.environ.get("CI") == "true" and name != "root":
            pytest.fail(f"CI=true, and {reason}", pytrace=False)
        pytest.skip(reason)


# -- the log policy


class ExpectedWarnings:
    """What a test announces: parts of messages that it means to provoke."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def __call__(self, *parts: str) -> None:
        """Announce that messages containing each of `parts` are to be logged; one that is not fails the test too."""
        self.parts += parts


class Collector(logging.Handler):
    """Keep every record that a user would have seen."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture
def expected_warnings() -> ExpectedWarnings:
    """Let a test announce warnings: `expected_warnings("part of the message", ...)`."""
    return ExpectedWarnings()


@pytest.fixture(autouse=True)
def log_policy(expected_warnings: ExpectedWarnings) -> Iterator[None]:
    """Fail a test that logs a WARNING or worse without having announced it: a user would have been alarmed."""
    collector = Collector()
    logger = logging.getLogger()  # the root: a library that we use may not alarm the user either
    logger.addHandler(collector)
    yield
    logger.removeHandler(collector)
    unexpected = [m for m in collector.messages if not any(part in m for part in expected_warnings.parts)]
    unseen = [part for part in expected_warnings.parts if not any(part in m for m in collector.messages)]
    if unexpected:
        pytest.fail("logged without announcement:\n" + "\n".join(unexpected), pytrace=False)
    if unseen:
        pytest.fail("announced, but never logged: " + ", ".join(map(repr, unseen)), pytrace=False)


# -- users, folders, servers


@pytest.fixture(scope="session")
def user() -> User:
    """Return the ordinary user who mounts."""
    return ordinary_user()


@pytest.fixture(scope="session")
def installation(user: User) -> Iterator[Installation]:
    """Provide a smbfuse that the ordinary user can run."""
    with installation_for(user) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder with a name that careless code breaks on."""
    path = tmp_path / FOLDER_NAME
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def samba() -> Iterator[SambaServer]:
    """Provide the server that most tests share: it allows every dialect, and each test has a folder of its own."""
    with samba_server() as server:
        yield server


@pytest.fixture
def share_folder(samba: SambaServer) -> Iterator[Path]:
    """Provide a new folder on the shared server: where it is on its disk. Its name is its path within the share."""
    path = samba.root / f"{FOLDER_NAME} {uuid.uuid4().hex[:8]}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start_samba() -> Iterator[Callable[..., SambaServer]]:
    """Provide `start_samba(options=…, share_options=…, shares=…, permissive=…)`: a server for this test alone."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> SambaServer:
            return stack.enter_context(samba_server(**settings))

        yield start


@pytest.fixture
def mount(
    user: User, installation: Installation, expected_warnings: ExpectedWarnings
) -> Iterator[Callable[..., Mount]]:
    """Provide `mount(server_or_url, {option: value}, subfolder=…)`: a real mount that lasts until the test's end.

    What the daemon logs obeys the same policy as the test's own process.
    """
    with contextlib.ExitStack() as stack:

        def make(source: SambaServer | str, options: Options | None = None, **settings: Any) -> Mount:
            settings = {"user": user, "installation": installation, "announced": expected_warnings.parts, **settings}
            return stack.enter_context(mounted(source, options or {}, **settings))

        yield make
