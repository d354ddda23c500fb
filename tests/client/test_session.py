"""What logins of all dialects have in common."""

import threading
from typing import cast

import trio

from smbfuse.client.session import login_step
from smbfuse.config import Sec
from smbfuse.security.login import LoginExchange


async def test_nobody_who_gives_up_waits_for_a_ticket() -> None:
    class Slow:
        """Asks a server for a ticket that does not answer."""

        def __init__(self) -> None:
            self.answer = threading.Event()
            self.done = threading.Event()

        def step(self, token: bytes) -> bytes:
            self.answer.wait(30)
            self.done.set()
            return token

    exchange = Slow()
    try:
        with trio.move_on_after(0.01) as scope:
            await login_step(cast("LoginExchange", exchange), b"", Sec.KRB5)
        assert scope.cancelled_caught
        assert not exchange.done.is_set()
    finally:
        exchange.answer.set()
