"""JSON of others: what is nested too deep is refused before it is parsed, whatever the recursion limit is."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.nested_json import load_json

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_whatever_json_is_is_read(document: Any) -> None:
    text = json.dumps(document)
    assert load_json(text) == load_json(text.encode()) == document


@pytest.mark.parametrize("opening", ["[", '{"a":', '["]",[', '[{"\\"]}":'])
def test_brackets_end_no_process(opening: str) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(ValueError, match="nested deeper than 200 levels"):
            load_json(opening * 100_000)
    finally:
        sys.setrecursionlimit(before)


def test_the_bound_is_exact_and_brackets_in_strings_do_not_count() -> None:
    assert load_json("[" * 3 + "]" * 3, nesting=3) == [[[]]]
    with pytest.raises(ValueError, match="nested deeper"):
        load_json("[" * 4 + "]" * 4, nesting=3)
    assert load_json('["[[[[", "\\"[[[["]', nesting=1) == ["[[[[", '"[[[[']


@pytest.mark.parametrize("text", ["", "[", '"', '"\\', "]", b"\xff"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        load_json(text)
