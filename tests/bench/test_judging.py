"""The bench itself: what is counted in a record, what requests are called, and when a bar is met."""

import json
import struct
from collections.abc import Sequence

import pytest

from tests.bench.clients import MEMORY, OURS, SMBCLIENT
from tests.bench.operations import OPERATIONS
from tests.bench.report import number, ratio, spread
from tests.bench.transfers import TRANSFERS
from tests.bench.trees import TREES
from tests.bench.trips import HEADINGS, Counted, answered_round_trips
from tests.bench.workload import Bar, Measured, Metric, Verdict, Workload, order_of
from tests.support.command_names import count_requests, name_of
from tests.support.record import Pdu

RATE = Metric("rate", "MiB/s", "how fast")
TIME = Metric("time", "s", "how long", lower_is_better=True)


def smb2(message_id: int, *commands: int) -> bytes:
    """Return a compound as it is recorded: headers of 64 bytes, with 8 bytes of body each."""
    parts = []
    for index, command in enumerate(commands):
        part = bytearray(72)
        part[:4] = b"\xfeSMB"
        struct.pack_into("<H", part, 12, command)
        struct.pack_into("<I", part, 20, 72 if index + 1 < len(commands) else 0)
        struct.pack_into("<Q", part, 24, message_id + index)
        parts.append(bytes(part))
    return b"".join(parts)


def smb1(command: int, words: bytes) -> bytes:
    return b"\xffSMB" + bytes([command]) + bytes(27) + bytes([len(words) // 2]) + words + b"\0\0"


def pdu(data: bytes, arrived_s: float, *, to_server: bool = True, left_s: float | None = None) -> Pdu:
    return Pdu(0, to_server, 0, len(data), data, arrived_s, arrived_s if to_server else left_s)


def exchange(message_id: int, sent_s: float, answered_s: float | None) -> list[Pdu]:
    """Return a request and its reply; None: the reply has come to the relay, and waits there."""
    reply = pdu(smb2(message_id, 5), sent_s + 0.02, to_server=False, left_s=answered_s)
    return [pdu(smb2(message_id, 5), sent_s), reply]


def test_what_nobody_can_have_waited_for_is_no_round_trip() -> None:
    waited = exchange(1, 0.0, 0.04) + exchange(2, 0.05, 0.09)
    assert answered_round_trips(waited) == 2
    assert answered_round_trips([*waited, *exchange(3, 0.1, None)]) == 2


def test_what_was_asked_before_is_no_part_of_it() -> None:
    before = pdu(smb2(7, 6), 0.0, to_server=False, left_s=0.01)
    assert answered_round_trips([before, *exchange(1, 0.02, 0.06)]) == 1
    assert answered_round_trips([before]) == 0


@pytest.mark.parametrize(
    "data, name",
    [
        pytest.param(smb2(1, 5, 16, 6), "CREATE+QUERY_INFO+CLOSE", id="compound"),
        pytest.param(smb2(1, 8), "READ", id="single"),
        pytest.param(smb2(1, 99), "command 99", id="unknown"),
        pytest.param(b"\xfdSMB" + bytes(60), "sealed", id="sealed"),
        pytest.param(b"", "unknown", id="empty"),
        pytest.param(
            smb1(0x2D, b"\x2e\0\x41\0" + bytes(26)) + b"\x02\xff" + bytes(64), "OPEN_ANDX+READ_ANDX", id="chain"
        ),
        pytest.param(smb1(0x32, bytes(28) + struct.pack("<H", 1)), "FIND_FIRST2", id="transaction"),
        pytest.param(smb1(0xA0, bytes(36) + struct.pack("<H", 4)), "NT_TRANSACT/4", id="NT transaction"),
        pytest.param(smb1(0x04, bytes(6)), "CLOSE", id="SMB1"),
    ],
)
def test_requests_are_called_what_they_are(data: bytes, name: str) -> None:
    assert name_of(pdu(data, 0.0)) == name


def test_what_was_counted_is_kept_as_json() -> None:
    counted = Counted("stat", "1.0", 2, None, 2.5, count_requests(exchange(1, 0.0, 0.1)), 2, "2 · 4")
    kept = json.loads(json.dumps(counted.as_json()))
    assert (kept["requests"], kept["met"], kept["idle_trips"]) == ({"CREATE": 1}, True, None)
    assert len(counted.cells()) == len(HEADINGS)


def test_only_requests_are_counted() -> None:
    assert count_requests(exchange(1, 0.0, 0.1) + exchange(2, 0.2, 0.3)) == {"CREATE": 2}


def measured(bars: Sequence[Bar], figures: dict[str, dict[str, list[float]]]) -> Measured:
    workload = Workload("w", "a workload", (RATE, TIME), lambda stage, client, workload: {}, bars=bars)
    result = Measured(workload)
    result.values = figures
    return result


FIGURES: dict[str, dict[str, list[float]]] = {
    OURS: {"rate": [100.0, 300.0, 200.0], "time": [2.0]},
    "rclone": {"rate": [50.0], "time": [3.0]},
    "gvfs": {"rate": [80.0]},
    SMBCLIENT: {"rate": [400.0]},
}


@pytest.mark.parametrize(
    "bar, verdict",
    [
        (Bar("rate", 0.5, "smbclient"), Verdict("rate", "at least 0.5 x smbclient", 0.5, True)),
        (Bar("rate", 0.6, "smbclient"), Verdict("rate", "at least 0.6 x smbclient", 0.5, False)),
        (Bar("rate", 2.5, "peers"), Verdict("rate", "at least 2.5 x gvfs", 2.5, True)),
        (Bar("time", 1.5, "peers"), Verdict("time", "at least 1.5 x rclone", 1.5, True)),
        (Bar("time", 1.0, "smbclient"), Verdict("time", "at least 1 x smbclient", None, None)),
        (Bar("time", at_most=2.0), Verdict("time", "at most 2 s", 2.0, True)),
        (Bar("time", at_most=1.9), Verdict("time", "at most 1.9 s", 2.0, False)),
    ],
)
def test_bars(bar: Bar, verdict: Verdict) -> None:
    assert measured([bar], FIGURES).verdicts() == [verdict]


def test_who_failed_has_missed_every_bar() -> None:
    others = {name: figures for name, figures in FIGURES.items() if name != OURS}
    (verdict,) = measured([Bar("rate", 2.5, "peers")], others).verdicts()
    assert (verdict.value, verdict.met) == (None, False)


def test_ratios_say_how_many_times_better_smbfuse_is() -> None:
    one = measured([], FIGURES)
    assert ratio(one, RATE, "rclone") == 4.0
    assert ratio(one, TIME, "rclone") == 1.5
    assert ratio(one, TIME, "gvfs") is None
    assert ratio(one, RATE, OURS) is None


def test_figures_are_short_and_say_their_spread() -> None:
    assert number(12345.678) == "12,346"
    assert number(0.012345) == "0.0123"
    assert spread([3.0]) == "3"
    assert spread([1.0, 5.0, 3.0]) == "3 (1 to 5)"
    assert order_of({MEMORY, "gvfs", OURS, "rclone"}) == [OURS, "rclone", "gvfs", MEMORY]


def test_names_and_bars_of_the_workloads_fit() -> None:
    workloads = [*TRANSFERS, *TREES]
    assert len({workload.name for workload in workloads}) == len(workloads)
    for workload in workloads:
        names = {metric.name for metric in workload.metrics}
        assert {bar.metric for bar in workload.bars} <= names
        assert all((bar.against is None) == (bar.at_most is not None) for bar in workload.bars)
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
