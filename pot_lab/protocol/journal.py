"""How a change of the ledger's state is taken back whole: everything that changes notes what it was before.

A transaction or a closing window that fails half-way must leave nothing behind. So the state's classes and containers
write an undo entry for each change while `recording` is on, and `undo` takes entries back, the newest first. Whoever
changes the state need not know about it, so no rule can forget it. It costs a fraction of a microsecond a change,
whatever the size of the state.

Replicas of one history undo alike. In a mapping of more than `SMALL` entries an entry that was removed and comes back
is the last one; no rule depends on the order of such a mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, SupportsIndex

import msgspec

SMALL = 256
"""Mappings up to this size are copied before an entry is removed, so that it comes back in its place."""

_set: Callable[[Any, str, Any], None] = msgspec.Struct.__setattr__
_Log = list[tuple[Any, ...]]
_log: ContextVar[_Log | None] = ContextVar("undo log", default=None)


@contextmanager
def recording() -> Iterator[None]:
    """Note every change within, in this thread alone; what was noted is dropped at the end."""
    token = _log.set([])
    try:
        yield
    finally:
        _log.reset(token)


def position() -> int:
    """How many changes are noted, for `undo`; 0 while nothing is recorded."""
    log = _log.get()
    return len(log) if log is not None else 0


def forget() -> None:
    """Drop what is noted: it stands."""
    log = _log.get()
    if log is not None:
        log.clear()


def undo(to: int) -> None:
    """Take back what changed since this position."""
    log = _log.get()
    while log is not None and len(log) > to:
        act, *arguments = log.pop()
        act(*arguments)


def note(act: Callable[..., object], *arguments: object) -> None:
    """Have `undo` call this, for a change of something that is no part of the state."""
    log = _log.get()
    if log is not None:
        log.append((act, *arguments))


class State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Base of everything in the ledger that changes."""

    def __setattr__(self, name: str, value: Any) -> None:
        log = _log.get()
        if log is not None:
            log.append((_set, self, name, getattr(self, name)))
        _set(self, name, value)


class Holder(State):
    """Base of what changes and has lists or mappings, which then note their changes too, however deep they are."""

    _depths: ClassVar[dict[str, int]] = {}
    """How deep the list or mapping in each field is: 2 for a mapping of lists."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kinds = {name: str(kind) for name, kind in cls.__annotations__.items()}
        cls._depths = {
            name: kind.count("list[") + kind.count("dict[")
            for name, kind in kinds.items()
            if kind.startswith(("list[", "dict["))
        }

    def __post_init__(self) -> None:
        for name, depth in self._depths.items():
            _set(self, name, _followed(getattr(self, name), depth))

    def __setattr__(self, name: str, value: Any) -> None:
        depth = self._depths.get(name)
        if depth is not None:
            value = _followed(value, depth)
        log = _log.get()
        if log is not None:
            log.append((_set, self, name, getattr(self, name)))
        _set(self, name, value)


class UndoableList(list[Any]):
    """A list that notes its changes."""

    __slots__ = ()

    def append(self, value: Any) -> None:
        """As of `list`."""
        self._note_length()
        list.append(self, _followed(value, 1))

    def extend(self, values: Iterable[Any]) -> None:
        """As of `list`."""
        self._note_length()
        list.extend(self, [_followed(each, 1) for each in values])

    def __iadd__(self, values: Iterable[Any]) -> UndoableList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, count: SupportsIndex) -> UndoableList:
        self._note_all()
        list.__imul__(self, count)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        self._note_all()
        many = isinstance(index, slice)
        list.__setitem__(self, index, [_followed(each, 1) for each in value] if many else _followed(value, 1))

    def __delitem__(self, index: Any) -> None:
        self._note_all()
        list.__delitem__(self, index)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """As of `list`."""
        self._note_all()
        list.insert(self, index, _followed(value, 1))

    def pop(self, index: SupportsIndex = -1) -> Any:
        """As of `list`."""
        self._note_all()
        return list.pop(self, index)

    def remove(self, value: Any) -> None:
        """As of `list`."""
        self._note_all()
        list.remove(self, value)

    def clear(self) -> None:
        """As of `list`."""
        self._note_all()
        list.clear(self)

    def reverse(self) -> None:
        """As of `list`."""
        self._note_all()
        list.reverse(self)

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """As of `list`."""
        self._note_all()
        list.sort(self, key=key, reverse=reverse)

    def _note_length(self) -> None:
        log = _log.get()
        if log is not None:
            log.append((list.__delitem__, self, slice(len(self), None)))

    def _note_all(self) -> None:
        log = _log.get()
        if log is not None:
            log.append((list.__setitem__, self, slice(None), list(self)))


class UndoableDict(dict[Any, Any]):
    """A mapping that notes its changes."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        log = _log.get()
        if log is not None:
            if key in self:
                log.append((dict.__setitem__, self, key, dict.__getitem__(self, key)))
            else:
                log.append((dict.__delitem__, self, key))
        dict.__setitem__(self, key, _followed(value, 1))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As of `dict`; what it returns notes its changes, unlike the `default` that was given."""
        if key not in self:
            self[key] = default
        return dict.__getitem__(self, key)

    def update(self, *others: Any, **named: Any) -> None:
        """As of `dict`."""
        for key, value in dict(*others, **named).items():
            self[key] = value

    def __ior__(self, other: Any) -> UndoableDict:  # type: ignore[misc]
        self.update(other)
        return self

    def __delitem__(self, key: Any) -> None:
        self._note_removal(key)
        dict.__delitem__(self, key)

    def pop(self, key: Any, *default: Any) -> Any:
        """As of `dict`."""
        self._note_removal(key)
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        """As of `dict`."""
        self._note_all()
        return dict.popitem(self)

    def clear(self) -> None:
        """As of `dict`."""
        self._note_all()
        dict.clear(self)

    def _note_removal(self, key: Any) -> None:
        log = _log.get()
        if log is not None and key in self:
            if len(self) <= SMALL:
                log.append((_refill, self, dict(self)))
            else:
                log.append((dict.__setitem__, self, key, dict.__getitem__(self, key)))

    def _note_all(self) -> None:
        log = _log.get()
        if log is not None:
            log.append((_refill, self, dict(self)))


def _refill(mapping: UndoableDict, entries: dict[Any, Any]) -> None:
    dict.clear(mapping)
    dict.update(mapping, entries)


def _followed(value: Any, depth: int) -> Any:
    """A list or mapping that notes its changes, and so do those within it down to `depth`; other values as they are."""
    kind = type(value)
    if kind is list:
        return UndoableList(value if depth < 2 else [_followed(each, depth - 1) for each in value])
    if kind is dict:
        return UndoableDict(value if depth < 2 else {key: _followed(each, depth - 1) for key, each in value.items()})
    return value
