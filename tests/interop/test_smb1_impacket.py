"""SMB1 with impacket's server: one request at a time, no chains, no 64-bit offsets, NTLM without integrity."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from smbfuse.client import transport
from smbfuse.client.smb1_session import Smb1Session
from smbfuse.config import Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import NotFound
from smbfuse.share import Kind, OpenIntent
from tests.support.independent import PASSWORD, SHARE, USER, independent_server, missing

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "größe").write_bytes(CONTENT)
    (tmp_path / "sub").mkdir()
    for number in range(300):
        (tmp_path / "sub" / f"file {number}").touch()
    if reason := missing("impacket"):
        pytest.skip(reason)
    with independent_server("impacket", tmp_path, "smb1") as server:
        yield server.port


async def test_files_are_listed_and_read(port: int) -> None:
    target, network = Target(host="127.0.0.1", share=SHARE, port=port), Network(timeo_s=10.0)
    stream = await transport.connect(target, network)
    async with trio.open_nursery() as nursery:
        session = await Smb1Session.establish(
            stream,
            nursery,
            target=target,
            login=Login(user=USER, password=Secret(PASSWORD)),
            security=Security(vers=Vers.SMB1),
            network=network,
        )
        share = await session.connect_share(SHARE)
        assert share.limits.in_flight == 1
        for _ in range(2):  # the second open knows what the server lacks
            file = await share.open("größe", OpenIntent(first_bytes=4096))
            data = bytes(file.first or b"")
            while piece := await file.read(len(data), share.limits.read):
                data += piece
            await file.aclose()
            assert data == CONTENT
            assert (file.stat.kind, file.stat.size) == (Kind.FILE, len(CONTENT))
        directory = await share.open_directory("sub")
        names = set()
        while page := await directory.page():
            names |= {entry.name for entry in page}
        assert names == {f"file {number}" for number in range(300)}
        with pytest.raises(NotFound):
            await share.open("nowhere", OpenIntent())
        await share.aclose()
        await session.aclose()
