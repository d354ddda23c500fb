"""logind: this machine is about to sleep, and is awake again.  org.freedesktop.login1(5).

A delay inhibitor ("delay" lock for "sleep") is held while the machine is awake: logind then says that it is about to
sleep (PrepareForSleep) and waits until the inhibitor is given back, for InhibitDelayMaxSec= (5 s) at most.

Every user may do so. Where there is no bus, no logind, or it refuses, the machine sleeps all the same, and that it has
slept is found out afterwards (`Connection.doubt`). Whatever the bus says, nothing here can hurt the mount.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any, Final, Protocol

import trio
from jeepney import (
    DBusAddress,
    DBusErrorResponse,
    HeaderFields,
    MatchRule,
    Message,
    MessageType,
    message_bus,
    new_method_call,
)
from jeepney.fds import FileDescriptor
from jeepney.io.trio import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

log = logging.getLogger(__name__)

SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"
ANSWER_S: Final = 10.0  # longest wait for the bus, or for logind
PAUSE_S: Final = 60.0  # until a bus that has gone is looked for again
_QUEUE: Final = 64  # signals that may come before an answer

_LOGIND: Final = "org.freedesktop.login1"
_MANAGER: Final = DBusAddress("/org/freedesktop/login1", bus_name=_LOGIND, interface=f"{_LOGIND}.Manager")
_BUS: Final = "org.freedesktop.DBus"


class Sleeper(Protocol):
    """Who is told."""

    def expect_sleep(self) -> None:
        """Hear that sleep will be told of, if there is any."""
        ...

    async def fall_asleep(self) -> None:
        """Get ready: the machine sleeps when this returns, or when logind has waited long enough."""
        ...

    def wake_up(self) -> None:
        """Hear that the machine is awake, or may be."""
        ...


class _Bus:
    """One conversation with the bus: a question at a time, and the signals that come in between."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._signals: deque[Message] = deque(maxlen=_QUEUE)

    async def call(self, question: Message) -> Message:
        """Return the answer to a question, an error too."""
        serial = next(self._connection.outgoing_serial)
        await self._connection.send(question, serial=serial)
        while True:
            message = await self._connection.receive()
            if message.header.fields.get(HeaderFields.reply_serial) == serial:
                return message
            self._keep(message)

    async def signal(self) -> Message:
        """Return the next signal."""
        while not self._signals:
            self._keep(await self._connection.receive())
        return self._signals.popleft()

    async def owner(self, name: str) -> str | None:
        """Return the unique name of who is called `name`; None: nobody is now."""
        reply = await self.call(message_bus.GetNameOwner(name))
        if reply.header.message_type is MessageType.error:
            return None
        match reply.body:
            case (str(owner),):
                return owner
            case _:
                raise ValueError("the bus does not know whom it speaks of")

    def _keep(self, message: Message) -> None:
        if message.header.message_type is MessageType.signal:
            self._signals.append(message)


class Logind:
    """Tells a mount of sleep: see `Sleeper`."""

    def __init__(self, address: str, sleeper: Sleeper) -> None:
        """`address` is $DBUS_SYSTEM_BUS_ADDRESS, or ''."""
        self._address = address or SYSTEM_BUS
        self._sleeper = sleeper
        self._asleep = False
        self._inhibitor: FileDescriptor | None = None
        self._owner: str | None = None  # logind's own name on the bus: anybody may send a signal of that kind
        self._heard = False  # there was a bus once

    async def run(self) -> None:
        """Listen until cancelled; return if there is no bus. Never raises for what the bus does."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # whatever bytes come, to a library that believes them
                log.info("this machine is not heard to fall asleep: %s", _words(error))
            finally:
                self._release()
                self._awake()
            if not self._heard:
                return
            await trio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        """Connect, ask for the signals, take the inhibitor, and deal with what is told until the bus is gone."""
        with trio.fail_after(ANSWER_S) as patience:
            async with await open_dbus_connection(self._address, enable_fds=True) as connection:
                bus = _Bus(connection)
                for rule in _rules():
                    unwrap_msg(await bus.call(message_bus.AddMatch(rule)))
                self._heard = True
                self._sleeper.expect_sleep()
                await self._inhibit(bus)  # this starts logind, where the bus can
                self._owner = await bus.owner(_LOGIND)
                patience.deadline = math.inf
                while True:
                    await self._take(bus, await bus.signal())

    async def _take(self, bus: _Bus, signal: Message) -> None:
        sender = signal.header.fields.get(HeaderFields.sender)
        match signal.header.fields.get(HeaderFields.member), signal.body:
            case "PrepareForSleep", (True,) if sender == self._owner:
                if not self._asleep:
                    self._asleep = True
                    await self._sleeper.fall_asleep()
                self._release()
            case "PrepareForSleep", (False,) if sender == self._owner:
                self._awake()
                await self._inhibit(bus)
            case "NameOwnerChanged", (str(), str(), str(owner)) if sender == _BUS:
                # The one who was to tell us of the awakening has gone; a new one knows of no inhibitor of ours.
                self._owner = owner or None
                self._release()
                self._awake()
                if owner:
                    await self._inhibit(bus)
            case member, _:
                log.debug("a signal from %s that means nothing here: %s", sender, member)

    async def _inhibit(self, bus: _Bus) -> None:
        """Take the inhibitor, if logind gives it; without it the machine may be asleep before everything is done."""
        if self._inhibitor is not None:
            return
        what = ("sleep", "smbfuse", "Requests to the file server are answered first", "delay")
        try:
            with trio.fail_after(ANSWER_S):
                reply = await bus.call(new_method_call(_MANAGER, "Inhibit", "ssss", what))
            match unwrap_msg(reply):
                case (FileDescriptor() as inhibitor,):
                    self._inhibitor = inhibitor
                case _:
                    log.info("logind gave no inhibitor, and does not wait for us before this machine sleeps")
        except (DBusErrorResponse, trio.TooSlowError) as error:
            log.info("logind does not wait for us before this machine sleeps: %s", _words(error))

    def _release(self) -> None:
        inhibitor, self._inhibitor = self._inhibitor, None
        if inhibitor is not None:
            inhibitor.close()

    def _awake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._sleeper.wake_up()


def _rules() -> tuple[MatchRule, MatchRule]:
    """Return which signals are asked for: those of logind, and that there is another one, or none."""
    sleep = MatchRule(type="signal", sender=_LOGIND, interface=_MANAGER.interface, member="PrepareForSleep")
    owners = MatchRule(type="signal", sender=_BUS, interface=_BUS, member="NameOwnerChanged")
    owners.add_arg_condition(0, _LOGIND)
    return sleep, owners


def _words(error: BaseException) -> str:
    first: Any = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return f"{type(first).__name__}: {first}" if str(first) else type(first).__name__
