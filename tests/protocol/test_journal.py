"""Whatever changes in the ledger's state can be taken back whole, wherever it is and however it is changed."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pot_lab.crypto.canonical import encode
from pot_lab.protocol import journal
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.journal import SMALL, Holder, State, UndoableDict, UndoableList
from tests.protocol.scenes import bring_to, new_world


class Leaf(State):
    number: int = 0


class Tree(Holder, kw_only=True):
    number: int = 0
    leaves: list[Leaf] = msgspec.field(default_factory=list)
    names: dict[int, int] = msgspec.field(default_factory=dict)
    rows: list[list[int]] = msgspec.field(default_factory=list)
    votes: dict[int, dict[int, list[int]]] = msgspec.field(default_factory=dict)


numbers = st.integers(0, 7)


def change(tree: Tree, how: int, a: int, b: int) -> None:
    """One of all ways to change something, somewhere."""
    ways = [
        lambda: setattr(tree, "number", a),
        lambda: tree.leaves.append(Leaf(a)),
        lambda: tree.leaves and setattr(tree.leaves[a % len(tree.leaves)], "number", b),
        lambda: tree.leaves.extend([Leaf(a), Leaf(b)]),
        lambda: tree.leaves.insert(a, Leaf(b)),
        lambda: tree.leaves and tree.leaves.pop(a % len(tree.leaves)),
        lambda: tree.leaves and tree.leaves.remove(tree.leaves[a % len(tree.leaves)]),
        lambda: tree.leaves.reverse(),
        lambda: tree.leaves.sort(key=lambda leaf: leaf.number),
        lambda: tree.leaves.__delitem__(slice(a, b)),
        lambda: tree.leaves.__setitem__(slice(a, b), [Leaf(b)]),
        lambda: tree.leaves.clear(),
        lambda: setattr(tree, "leaves", [*tree.leaves, Leaf(a)]),
        lambda: setattr(tree, "leaves", tree.leaves.__iadd__([Leaf(a)])),
        lambda: setattr(tree, "leaves", tree.leaves.__imul__(a % 2)),
        lambda: tree.names.__setitem__(a, b),
        lambda: tree.names.setdefault(a, b),
        lambda: tree.names.update({a: b, b: a}),
        lambda: tree.names.pop(a, None),
        lambda: a in tree.names and tree.names.__delitem__(a),
        lambda: tree.names and tree.names.popitem(),
        lambda: tree.names.clear(),
        lambda: setattr(tree, "names", tree.names.__ior__({a: b})),
        lambda: tree.rows.append([a]),
        lambda: setattr(tree, "rows", [[a], [b]]),
        lambda: tree.rows and tree.rows[0].append(b),
        lambda: tree.votes.setdefault(a, {}).setdefault(b, []).append(a),
        lambda: setattr(tree, "votes", {a: {b: [a, b]}}),
        lambda: tree.votes.get(a, {}).pop(b, None),
        lambda: [rows.clear() for votes in tree.votes.values() for rows in votes.values()],
    ]  # fmt: skip
    ways[how % len(ways)]()


steps = st.lists(st.tuples(st.integers(0, 29), numbers, numbers), max_size=12)


@settings(max_examples=300)
@given(before=steps, first=steps, second=steps, decoded=st.booleans())
def test_what_changed_is_taken_back_to_the_byte(before: Any, first: Any, second: Any, decoded: bool) -> None:
    tree = Tree()
    for step in before:
        change(tree, *step)
    if decoded:  # as after a snapshot
        tree = msgspec.msgpack.decode(encode(tree), type=Tree)
    with journal.recording():
        begun = encode(tree)
        for step in first:
            change(tree, *step)
        between, position = encode(tree), journal.position()
        for step in second:
            change(tree, *step)
        journal.undo(position)
        assert encode(tree) == between
        journal.undo(0)
        assert encode(tree) == begun and journal.position() == 0


def test_a_large_mapping_gets_its_entries_back_if_not_their_places() -> None:
    tree = Tree(names={number: number for number in range(2 * SMALL)})
    with journal.recording():
        del tree.names[3]
        journal.undo(0)
    assert tree.names == {number: number for number in range(2 * SMALL)}


def test_nothing_is_noted_outside_of_a_recording_nor_by_another_thread() -> None:
    tree = Tree()
    tree.number = 1
    assert journal.position() == 0
    with journal.recording():
        other = threading.Thread(target=lambda: setattr(tree, "number", 2))
        other.start()
        other.join()
        assert journal.position() == 0
        journal.undo(0)
    assert tree.number == 2


@pytest.mark.parametrize(("followed", "plain"), [(UndoableList, list), (UndoableDict, dict)])
def test_no_way_to_change_a_container_goes_unnoticed(followed: type, plain: type) -> None:
    readers = {
        *dir(object), "__getitem__", "__iter__", "__len__", "__contains__", "__reversed__", "__add__", "__mul__",
        "__rmul__", "__or__", "__ror__", "__class_getitem__", "copy", "count", "index", "get", "items", "keys",
        "values", "fromkeys",
    }  # fmt: skip
    unnoticed = [name for name in dir(plain) if name not in readers and getattr(followed, name) is getattr(plain, name)]
    assert unnoticed == []


def every_state(base: type[State] = State) -> list[type[State]]:
    return [each for kind in base.__subclasses__() for each in (kind, *every_state(kind))]


def test_every_state_with_a_list_or_a_mapping_follows_it() -> None:
    states = [each for each in every_state() if each.__module__.startswith("pot_lab.") and each is not Holder]
    assert len(states) > 20
    for each in states:
        for name, kind in each.__annotations__.items():
            if "list[" in str(kind) or "dict[" in str(kind):
                assert issubclass(each, Holder) and name in each._depths, f"{each.__name__}.{name}"


@pytest.mark.parametrize("window", [Window.JUDGE, Window.SETTLED])
@pytest.mark.parametrize("restored", [False, True])
def test_everything_in_a_ledger_that_changes_notes_its_changes(window: Window, restored: bool) -> None:
    world = new_world()
    bring_to(world, window)
    if restored:
        world.ledger.restore(world.ledger.snapshot())
    seen = 0

    def walk(value: Any) -> None:
        nonlocal seen
        if isinstance(value, list | dict):
            seen += 1
            assert type(value) in (UndoableList, UndoableDict), value
            for each in value.values() if isinstance(value, dict) else value:
                walk(each)
        elif isinstance(value, msgspec.Struct) and not value.__struct_config__.frozen:
            assert isinstance(value, State), type(value)
            for name in value.__struct_fields__:
                walk(getattr(value, name))

    walk(world.ledger.state)
    assert seen > 50
