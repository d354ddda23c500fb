"""A bus of the tests' own, and somebody on it who is logind as far as anybody there can tell.

The bus is a real dbus-daemon on a socket in a folder of the test; every user may connect, and call himself what he
likes. `Login1` gives inhibitors and sends signals as the test wishes, and knows who still holds what it gave.
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.support.samba import wait_for

CONFIGURATION: Final = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
    <allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"""
START_S: Final = 20.0
NAME: Final = "org.freedesktop.login1"
MANAGER: Final = DBusAddress("/org/freedesktop/login1", bus_name=NAME, interface=f"{NAME}.Manager")


class Bus:
    """A dbus-daemon. May be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:path={folder}/bus"
        self._socket = folder / "bus"
        self._configuration = folder / "bus.conf"
        self._configuration.write_text(CONFIGURATION.format(socket=self._socket))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = shutil.which("dbus-daemon")
        assert program is not None, "dbus-daemon is not installed (./dev test installs it)"
        self._socket.unlink(missing_ok=True)
        command = ["setpriv", "--pdeathsig", "KILL", program, f"--config-file={self._configuration}", "--nofork"]
        self._process = subprocess.Popen([*command, "--nopidfile", "--nosyslog"])
        assert wait_for(self._listens, START_S)
        self._socket.chmod(0o666)

    def _listens(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self._socket))
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it, and with it every connection."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_S)
            self._process = None


@contextlib.contextmanager
def bus_in(folder: Path) -> Iterator[Bus]:
    """Run a bus in a folder that everybody may enter."""
    bus = Bus(folder)
    bus.start()
    try:
        yield bus
    finally:
        bus.kill()


class Login1:
    """The owner of org.freedesktop.login1: answers Inhibit from a thread of its own."""

    def __init__(self, bus: Bus, *, refuses: bool = False, answers: Sequence[Any] | None = None) -> None:
        """`refuses`: to give inhibitors. `answers`: what is answered in the place of one, as (signature, body)."""
        self.asked: list[tuple[str, ...]] = []
        self._refuses = refuses
        self._answers = answers
        self._given: list[int] = []  # our ends of the pipes
        self._connection: DBusConnection = open_dbus_connection(bus.address, enable_fds=True)
        self._connection.send_and_get_reply(message_bus.RequestName(NAME))
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the name back by leaving the bus."""
        self._over = True
        self._thread.join(START_S)
        self._connection.close()
        for end in self._given:
            os.close(end)
        self._given.clear()

    @property
    def held(self) -> int:
        """How many inhibitors are held."""
        return sum(not select.select([end], [], [], 0)[0] for end in self._given)

    def prepare_for_sleep(self, start: bool) -> None:
        """Tell everybody that the machine is about to sleep, or is awake."""
        self._connection.send(new_signal(MANAGER, "PrepareForSleep", "b", (start,)))

    def says(self, member: str, signature: str, body: Sequence[Any]) -> None:
        """Send a signal of any kind."""
        self._connection.send(new_signal(MANAGER, member, signature, tuple(body)))

    def _serve(self) -> None:
        while not self._over:
            try:
                message = self._connection.receive(timeout=0.1)
            except TimeoutError:
                continue
            except (ConnectionError, OSError):
                return
            if message.header.message_type is MessageType.method_call:
                self._answer(message)

    def _answer(self, call: Message) -> None:
        if call.header.fields.get(HeaderFields.member) != "Inhibit":
            return
        self.asked.append(tuple(call.body))
        if self._refuses:
            self._connection.send(new_error(call, "org.freedesktop.DBus.Error.AccessDenied", "s", ("no",)))
        elif self._answers is not None:
            self._connection.send(new_method_return(call, self._answers[0], self._answers[1]))
        else:
            ours, theirs = os.pipe()
            self._connection.send(new_method_return(call, "h", (theirs,)))
            os.close(theirs)
            self._given.append(ours)
