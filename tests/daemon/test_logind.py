"""logind over a real bus: told in time, released in time, and nothing that a bus does hurts anybody."""

import contextlib
import gc
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio
from jeepney import HeaderFields, new_signal
from jeepney.io.blocking import open_dbus_connection

from smbfuse.daemon import logind
from smbfuse.daemon.logind import Logind
from tests.support.login1 import MANAGER, Bus, Login1, bus_in

SOON_S = 20.0  # a limit, never a pause


class Sleeper:
    """Falls asleep when it is let, and counts."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.expects = 0
        self.may_sleep = trio.Event()
        self.may_sleep.set()

    async def fall_asleep(self) -> None:
        self.told.append("falling")
        await self.may_sleep.wait()
        self.told.append("asleep")

    def expect_sleep(self) -> None:
        self.expects += 1

    def wake_up(self) -> None:
        self.told.append("awake")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    with bus_in(tmp_path) as bus:
        yield bus


@contextlib.asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Sleeper]:
    """Run `Logind` on a bus for a while."""
    sleeper = Sleeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Logind(bus.address, sleeper).run)
        yield sleeper
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(SOON_S):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


async def test_the_machine_sleeps_when_we_do(bus: Bus) -> None:
    with Login1(bus) as login1:
        async with listening(bus) as sleeper:
            await until(lambda: login1.held == 1)
            assert sleeper.expects == 1
            assert [(what, mode) for what, _, _, mode in login1.asked] == [("sleep", "delay")]
            for times in (1, 2):
                sleeper.may_sleep = trio.Event()
                login1.prepare_for_sleep(True)
                await until(lambda: sleeper.told[-1:] == ["falling"])
                await trio.sleep(0.2)
                assert login1.held == 1
                sleeper.may_sleep.set()
                await until(lambda: login1.held == 0)
                assert sleeper.told[-1] == "asleep"
                login1.prepare_for_sleep(False)
                await until(lambda: login1.held == 1)
                assert sleeper.told == ["falling", "asleep", "awake"] * times
        assert login1.held == 0


async def test_a_logind_that_refuses_is_heard_all_the_same(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Login1(bus, refuses=True) as login1:
        async with listening(bus) as sleeper:
            await until(lambda: "logind does not wait for us" in caplog.text)
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told == ["falling", "asleep"])
            login1.prepare_for_sleep(False)
            await until(lambda: sleeper.told[-1] == "awake")


@pytest.mark.parametrize("answer", [("s", ("no descriptor",)), ("", ()), ("u", (7,))], ids=str)
async def test_an_inhibitor_that_is_none_is_no_harm(
    bus: Bus, caplog: pytest.LogCaptureFixture, answer: tuple[str, tuple[object, ...]]
) -> None:
    caplog.set_level(logging.INFO)
    with Login1(bus, answers=answer) as login1:
        async with listening(bus) as sleeper:
            await until(lambda: "logind gave no inhibitor" in caplog.text)
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told == ["falling", "asleep"])


async def test_what_others_say_of_sleep_is_not_believed(bus: Bus) -> None:
    with Login1(bus) as login1, contextlib.closing(open_dbus_connection(bus.address)) as stranger:
        async with listening(bus) as sleeper:
            await until(lambda: login1.held == 1)
            # To everybody, and to each that may be on the bus: what is sent to one alone asks nobody's leave.
            stranger.send(new_signal(MANAGER, "PrepareForSleep", "b", (True,)))
            for number in range(5):
                message = new_signal(MANAGER, "PrepareForSleep", "b", (True,))
                message.header.fields[HeaderFields.destination] = f":1.{number}"
                stranger.send(message)
            login1.says("PrepareForSleep", "s", ["true"])
            login1.says("PrepareForSleep", "bb", [True, True])
            login1.says("PrepareForSleep", "", [])
            login1.says("SessionNew", "so", ["1", "/a"])
            await trio.sleep(0.5)
            assert sleeper.told == []
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told == ["falling", "asleep"])


async def test_logind_may_come_and_go(bus: Bus) -> None:
    async with listening(bus) as sleeper:
        await trio.sleep(0.3)
        with Login1(bus) as login1:
            await until(lambda: login1.held == 1)
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told == ["falling", "asleep"])
        await until(lambda: sleeper.told[-1] == "awake")  # who was to say so has gone
        with Login1(bus) as login1:
            await until(lambda: login1.held == 1)


async def test_a_bus_that_goes_wakes_us_and_is_found_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logind, "PAUSE_S", 0.1)
    async with listening(bus) as sleeper:
        with Login1(bus) as login1:
            await until(lambda: login1.held == 1)
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told == ["falling", "asleep"])
            bus.kill()
            await until(lambda: sleeper.told[-1] == "awake")
        bus.start()
        with Login1(bus) as login1:
            await until(lambda: login1.held == 1)
            login1.prepare_for_sleep(True)
            await until(lambda: sleeper.told[-1] == "asleep")


@pytest.mark.parametrize(
    "address", ["unix:path=/nowhere/bus", "nonsense", "tcp:host=localhost", "unix:path=/etc/passwd"]
)
async def test_without_a_bus_nothing_happens(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sleeper = Sleeper()
    with trio.fail_after(SOON_S):
        await Logind(address, sleeper).run()
    assert sleeper.told == []
    assert [record.levelname for record in caplog.records] == ["INFO"]


# The library leaves a socket to the garbage collector when the bus does not let it in.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"REJECTED EXTERNAL\r\n",
        b"\xff" * 5000,
        b"OK 1234\r\nAGREE_UNIX_FD\r\n" + b"\0" * 400,
        b"OK 1234\r\nAGREE_UNIX_FD\r\n" + b"l\x02\x01\x01" + b"\xff" * 400,
        b"OK 1234\r\nAGREE_UNIX_FD\r\n" + b"l\x02\x01\x01\x00\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00" * 40,
    ],
    ids=["nothing", "rejected", "noise", "zeros", "no message", "another message"],
)
@pytest.mark.parametrize("closes", [True, False])
async def test_whatever_a_bus_says_is_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, closes: bool
) -> None:
    monkeypatch.setattr(logind, "ANSWER_S", 1.0)
    path = tmp_path / "bus"
    over = threading.Event()

    def pretend() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            for part in said.splitlines(keepends=True) or [b""]:
                client.recv(1000)
                client.sendall(part)
            if not closes:
                over.wait(SOON_S)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=pretend)
        thread.start()
        sleeper = Sleeper()
        with trio.fail_after(SOON_S):
            await Logind(f"unix:path={path}", sleeper).run()
        over.set()
        thread.join(SOON_S)
    assert sleeper.told == []
    gc.collect()
