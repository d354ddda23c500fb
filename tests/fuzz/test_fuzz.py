"""Whatever the bytes: a value, DecodeError, or the end of the connection. A short run; `./dev soak` has the long one.

Seeds are fixed here, so that a failure is everybody's failure. `python -m tests.fuzz.run` tries others.
"""

import random
from typing import Final

import pytest

from smbfuse.errors import DecodeError
from tests.fuzz.decoders import Target, corpus
from tests.fuzz.decoders import targets as decoders
from tests.fuzz.engines import targets as engines
from tests.fuzz.mutate import LARGEST, Mutator
from tests.fuzz.run import main, markdown, report
from tests.fuzz.runner import CPU_S, Outcome, fuzz

INPUTS: Final = 2_000
SEED: Final = "2026"

DECODERS: Final = decoders()


def named(target: Target) -> str:
    return target.name


@pytest.mark.parametrize("target", DECODERS, ids=named)
def test_a_decoder_reads_its_seeds(target: Target) -> None:
    assert target.seeds, f"{target.name} is new: give it a seed (tests/fuzz/gather.py)"
    for seed in target.seeds:
        target.call(seed)


def test_every_seed_belongs_to_a_decoder() -> None:
    assert set(corpus()) <= {target.name for target in DECODERS}


def test_decoders_are_found_in_every_module_that_reads() -> None:
    modules = {".".join(part for part in target.name.split(".")[:-1] if part.islower()) for target in DECODERS}
    known = {"dirlist", "fscc", "nbss", "reparse", "srvsvc", "smb1.io", "smb1.transaction", "smb2.create", "smb2.io"}
    assert known <= modules


@pytest.mark.parametrize("target", [*DECODERS, *engines()], ids=named)
def test_strange_bytes_end_in_a_value_or_in_the_expected_error(target: Target) -> None:
    outcome = fuzz(target, max(20, round(INPUTS * target.share)), f"{SEED}:{target.name}")
    assert outcome.failures == []
    assert outcome.values, "no input got through: the mutations are too wild to test anything"


# --- the fuzzer itself


def refuse(data: bytes) -> None:
    raise DecodeError("no")


def loop(data: bytes) -> None:
    while True:
        pass


def swallow(data: bytes) -> object:
    return bytes(1 << 40)


def stumble(data: bytes) -> object:
    return data[1000]


@pytest.mark.parametrize("guilty, word", [(loop, "TooSlow"), (swallow, "MemoryError"), (stumble, "IndexError")])
def test_what_loops_swallows_memory_or_stumbles_is_a_failure(guilty: object, word: str) -> None:
    assert callable(guilty)
    outcome = fuzz(Target("guilty", guilty, (b"seed",)), 1, SEED)
    assert outcome.failures
    assert outcome.failures[0].startswith(word)
    assert outcome.seconds < 10 * CPU_S


def test_refusing_is_no_failure() -> None:
    outcome = fuzz(Target("refuses", refuse, (b"seed",)), 10, SEED)
    assert (outcome.refused, outcome.values, outcome.failures) == (10, 0, [])


def test_the_same_seed_gives_the_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        mutator = Mutator(random.Random(seed), (b"a" * 100, b"b" * 50), head=10)
        return [mutator.next() for _ in range(500)]

    assert inputs(1) == inputs(1) != inputs(2)
    assert max(map(len, inputs(1))) <= LARGEST
    assert len(set(inputs(1))) > 400


def test_a_result_tells_how_to_repeat_it() -> None:
    bad = Outcome("smb2.x", "7:smb2.x", inputs=5, values=3, failures=["ValueError: no -- 00ff"])
    text = markdown(report([bad], "7", 1.0))
    assert "--seed 7" in text
    assert "1 failures" in text
    assert "ValueError: no -- 00ff" in text


def test_the_program_runs_one_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--inputs", "50", "--seed", "1", "--decoder", "nbss.refusal", "--jobs", "1"]) == 0
    assert "| nbss.refusal | 50 |" in capsys.readouterr().out
