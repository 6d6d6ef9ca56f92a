"""Whatever bytes come from outside, their reader takes them or refuses them by name; nothing else leaves it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pot_lab.chain.errors import ChainRefused
from pot_lab.errors import PotLabError
from tests.chaos.fuzz_targets import targets
from tests.network.toy import ROOT

NAMES = sorted(targets())
WORDS = [b"\0", b"\xff" * 8, b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xdd\xff\xff\xff\xff", b"\x91" * 2_000]


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with some of its bytes replaced, cut out, doubled or swapped with another's, or bytes of any kind."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        match draw(st.integers(0, 5)):
            case 0:
                data[at:end] = draw(st.binary(max_size=40))
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * draw(st.integers(1, 50))
            case 3:
                other = draw(st.sampled_from(seeds))
                data[at:] = other[at:]
            case 4 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case _:
                data[at:end] = draw(
                    st.sampled_from([b"\0", b"\xff" * 8, b"\xcf" + b"\xff" * 8, b"\xdd\xff\xff\xff\xff"])
                )
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_taken(name: str) -> None:
    """A fuzzer that starts from refused bytes finds little."""
    target = targets()[name]
    taken = 0
    for seed in target.seeds:
        try:
            target.read(seed)
            taken += 1
        except PotLabError:
            pass
    assert taken, name


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_mutated_bytes_are_taken_or_refused_by_name(name: str, data: st.DataObject) -> None:
    target = targets()[name]
    raw = data.draw(st.one_of(mutated(target.seeds), st.binary(max_size=300)))
    try:
        target.read(raw)
    except PotLabError as error:
        assert str(error)


def test_a_node_that_answers_a_number_beyond_every_uint64_is_refused() -> None:
    """Found by fuzzing: such an event could not be encoded, and ended in an OverflowError when it was attested."""
    read, (staked, *_) = targets()["chain log"]
    for number, is_possible in (((1 << 64) - 1, True), (1 << 64, False), ((1 << 256) - 1, False)):
        for change in ({"data": f"0x{number:064x}{number:064x}"}, {"logIndex": hex(number)}):
            raw = json.dumps({**json.loads(staked), **change}).encode()
            if is_possible:
                assert read(raw)
                continue
            with pytest.raises(ChainRefused, match="impossible number"):
                read(raw)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20_000)
@given(data=st.data())
def test_mutated_bytes_for_long(name: str, data: st.DataObject) -> None:
    target = targets()[name]
    try:
        target.read(data.draw(mutated(target.seeds)))
    except PotLabError as error:
        assert str(error)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_coverage_guided_fuzzer_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (the `fuzz` extra)")
    command = [sys.executable, "-m", "tests.chaos.fuzz", "--seconds", "300", "--corpus", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(" clean") == len(NAMES), done.stdout
