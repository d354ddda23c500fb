"""Agreeing on a dialect with real servers, and what is said when there is none; the list of shares that helps then."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import ConnectFailed, NotFound, Reason, SmbError
from smbfuse.share import ShareStatistics
from tests.conftest import ExpectedWarnings
from tests.relay import Relay
from tests.support.samba import PASSWORD, SambaServer, samba_server

pytestmark = pytest.mark.samba

SMB1_ONLY = {"server max protocol": "NT1"}
SMB2_ONLY = {"server min protocol": "SMB2_02"}
WARNING = "speaks only SMB1"


def config(server: SambaServer, vers: Vers, *, port: int | None = None, share: str = "share") -> Config:
    return Config(
        target=Target("127.0.0.1", share, port=port or server.port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=vers),
        network=Network(timeo_s=6.0, connect_timeout_s=3.0),
    )


async def connected(settings: Config) -> ShareStatistics:
    """Connect, ask for the root, leave; return what was negotiated."""
    async with trio.open_nursery() as nursery:
        source = await open_source(settings, nursery)
        share = await source.share("")
        await share.stat("")
        statistics = share.statistics()
        await source.aclose()
        nursery.cancel_scope.cancel()
    return statistics


async def refusal(settings: Config) -> SmbError:
    """Return the error that connecting ends with."""
    async with trio.open_nursery() as nursery:
        try:
            await open_source(settings, nursery)
        except SmbError as error:
            nursery.cancel_scope.cancel()
            return error
        raise AssertionError("connected")


async def test_a_server_that_speaks_only_smb1_is_named_as_such_and_not_spoken_to() -> None:
    with samba_server(options=SMB1_ONLY) as server:
        for vers in (Vers.DEFAULT, Vers.SMB202, Vers.SMB311):
            error = await refusal(config(server, vers))
            assert isinstance(error, ConnectFailed)
            assert error.reason is Reason.SMB1_ONLY
            assert "vers=1.0" in str(error)


async def test_a_server_that_has_no_smb1_is_named_as_such() -> None:
    with samba_server(options=SMB2_ONLY) as server:
        error = await refusal(config(server, Vers.SMB1))
        assert isinstance(error, ConnectFailed)
        assert error.reason is Reason.SMB2_ONLY


async def test_auto_takes_the_best_there_is(expected_warnings: ExpectedWarnings) -> None:
    with samba_server() as server:
        assert (await connected(config(server, Vers.AUTO))).dialect == "3.1.1"
    with samba_server(options={"server max protocol": "SMB2_02"}) as server:
        assert (await connected(config(server, Vers.AUTO))).dialect == "2.0.2"
    expected_warnings(WARNING)
    with samba_server(options=SMB1_ONLY) as server:
        assert (await connected(config(server, Vers.AUTO))).dialect == "1.0"


async def test_auto_says_once_that_it_is_smb1(
    expected_warnings: ExpectedWarnings, caplog: pytest.LogCaptureFixture
) -> None:
    expected_warnings(WARNING)
    with samba_server(options=SMB1_ONLY) as server, Relay.started(("127.0.0.1", server.port)) as relay:
        async with trio.open_nursery() as nursery:
            source = await open_source(config(server, Vers.AUTO, port=relay.port), nursery)
            share = await source.share("")
            relay.cut()
            await share.stat("")
            assert share.incarnation == 2
            await source.aclose()
            nursery.cancel_scope.cancel()
    assert sum(WARNING in record.getMessage() for record in caplog.records) == 1


async def test_a_cut_is_no_reason_to_fall_back() -> None:
    with samba_server() as server, Relay.started(("127.0.0.1", server.port)) as relay:
        relay.cut_after(1)  # of the server's first answer
        error = await refusal(config(server, Vers.AUTO, port=relay.port))
        assert not isinstance(error, ConnectFailed)
        # SMB1 was not spoken beyond the NEGOTIATE that both families understand.
        assert {pdu.data[:5] for pdu in relay.pdus() if pdu.data[:4] == b"\xffSMB"} == {b"\xffSMB\x72"}


@contextmanager
def something_else() -> Iterator[int]:
    """Listen like a web server that does not understand us."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                with stream:
                    stream.recv(4096)
                    stream.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize("vers", [Vers.DEFAULT, Vers.AUTO, Vers.SMB1])
async def test_what_is_no_smb_server_is_named_as_such(vers: Vers) -> None:
    with something_else() as port:
        settings = Config(Target("127.0.0.1", "share", port=port), security=Security(vers=vers))
        error = await refusal(settings)
    assert isinstance(error, ConnectFailed)
    assert error.reason is Reason.NOT_SMB


@pytest.mark.parametrize("vers", [Vers.SMB1, Vers.SMB202, Vers.SMB210, Vers.SMB311])
async def test_a_wrong_share_is_answered_with_the_names_that_exist(vers: Vers, tmp_path: Path) -> None:
    names = ["Büro, alt", "Fotos 2024", *(f"archive {number:03} of the old office" for number in range(150))]
    with samba_server(shares=dict.fromkeys(names, tmp_path), share_options={"comment": "x" * 40}) as server:
        error = await refusal(config(server, vers, share="photos"))
    assert isinstance(error, NotFound)
    # More than one RPC fragment, and neither IPC$ nor anything else that is not for people.
    assert all(repr(name) in str(error) for name in ["share", *names])
    assert "IPC$" not in str(error)
