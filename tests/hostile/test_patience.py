"""Servers that do not answer, or only promise to: every caller gets an errno within the deadline, others are served."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from smbfuse.config import Vers
from smbfuse.errors import ConnectionLost, Timeout
from smbfuse.share import OpenIntent, Share
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command, Header, HeaderFlags
from tests.hostile.shares import CONTENT, IN_TIME_S, connected, refused, serves_again
from tests.support.script import Action, Answer, Asked, Raw
from tests.support.scripted_server import ScriptedServer
from tests.support.scripted_smb2 import with_header

Start = Callable[..., ScriptedServer]

TIMEO_S = 1.5
ASYNC_ID = 0x5555


def silence(_asked: Asked, answer: Answer) -> None:
    answer.silent = True


def pending(_asked: Asked, answer: Answer) -> None:
    """Promise an answer, and never give it."""
    flags = answer.header.flags | HeaderFlags.ASYNC_COMMAND
    with_header(answer, status=NtStatus.PENDING, flags=flags, process_id=ASYNC_ID, tree_id=0)
    answer.body = ErrorResponse().encode()


def twice_pending(asked: Asked, answer: Answer) -> None:
    """Promise twice, then answer."""
    promise = Header(
        asked.header.command,
        asked.header.message_id,
        status=NtStatus.PENDING,
        flags=HeaderFlags.SERVER_TO_REDIR | HeaderFlags.ASYNC_COMMAND,
        process_id=ASYNC_ID,
        session_id=asked.header.session_id,
    )
    answer.before += [promise.encode() + ErrorResponse().encode()] * 2


@pytest.mark.parametrize(
    "vers, command, action",
    [
        (Vers.SMB311, Command.READ, silence),
        (Vers.SMB311, Command.READ, pending),
        (Vers.SMB1, Command1.READ_ANDX, silence),
    ],
    ids=["silent", "pending", "silent SMB1"],
)
async def test_a_read_that_is_never_answered(hostile: Start, vers: Vers, command: int, action: Action) -> None:
    server = hostile()
    async with connected(server, vers=vers, timeo_s=TIMEO_S) as share:
        file = await share.open("file", OpenIntent())
        server.script.on(command, action, times=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, share, lambda _share: file.read(0, 4), Timeout)
            await trio.sleep(TIMEO_S / 2)
            with trio.fail_after(TIMEO_S / 2):  # others do not wait
                assert (await share.stat("file")).size == len(CONTENT)
        await serves_again(server, share)
        await file.aclose()
    assert server.connections == 1


@pytest.mark.parametrize("vers", [Vers.SMB311, Vers.SMB1], ids=lambda vers: vers.value)
async def test_a_server_that_falls_silent(hostile: Start, vers: Vers) -> None:
    server = hostile()
    async with connected(server, vers=vers, timeo_s=TIMEO_S) as share:
        for command in (*Command, *Command1):
            server.script.on(command, silence)
        began = trio.current_time()
        error = await refused(share, lambda share: share.stat("file"))
        assert isinstance(error, Timeout | ConnectionLost)
        assert trio.current_time() - began < IN_TIME_S
        await serves_again(server, share)


async def test_promises_before_an_answer_do_no_harm(hostile: Start) -> None:
    server = hostile()
    async with connected(server) as share:
        server.script.on(Command.READ, twice_pending)
        file = await share.open("file", OpenIntent())
        assert bytes(await file.read(0, 100)) == CONTENT
        await file.aclose()


async def test_a_promise_with_another_id_is_answered_all_the_same(hostile: Start) -> None:
    def confused(asked: Asked, answer: Answer) -> None:
        twice_pending(asked, answer)
        answer.header = replace(
            answer.header, flags=answer.header.flags | HeaderFlags.ASYNC_COMMAND, process_id=1, tree_id=2
        )

    server = hostile()
    async with connected(server) as share:
        server.script.on(Command.READ, confused)
        file = await share.open("file", OpenIntent())
        assert bytes(await file.read(0, 100)) == CONTENT
        await file.aclose()


@pytest.mark.parametrize("vers", [Vers.SMB311, Vers.SMB1], ids=lambda vers: vers.value)
async def test_a_message_of_16_mib_that_never_comes(hostile: Start, vers: Vers) -> None:
    def announced(_asked: Asked, answer: Answer) -> None:
        answer.before.append(Raw(b"\0\xff\xff\xff"))

    server = hostile()
    async with connected(server, vers=vers, timeo_s=TIMEO_S) as share:
        for command in (Command.READ, Command1.READ_ANDX):
            server.script.on(command, announced)
        await refused(share, read_only)
        await serves_again(server, share)


async def read_only(share: Share) -> bytes:
    file = await share.open("file", OpenIntent())
    return bytes(await file.read(0, 4))


@pytest.mark.parametrize("credits", [0, 1, 0xFFFF])
async def test_credits_of_whatever_number(hostile: Start, credits: int) -> None:
    """No credits at all end the connection; one at a time is slow, yet everything works."""

    def grants(_asked: Asked, answer: Answer) -> None:
        with_header(answer, credits=credits)

    server = hostile()
    async with connected(server) as share:
        for command in Command:
            server.script.on(command, grants)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(_stat_or_lose, share.stat("file"))
        await serves_again(server, share)


async def _stat_or_lose(asked: object) -> None:
    with trio.fail_after(IN_TIME_S):
        try:
            await asked  # type: ignore[misc]  # a coroutine
        except (ConnectionLost, Timeout):
            return
