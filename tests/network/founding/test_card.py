"""An aggregator's card says what its account signed, and nothing else is taken for one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pot_lab.errors import Malformed
from pot_lab.network.aggregator.keys_folder import load_keys
from pot_lab.network.config import Listening
from pot_lab.network.founding.card import BadCard, Card, entries_of_cards
from tests.network.founding.parts import Operators


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Operators:
    return Operators(tmp_path_factory.mktemp("operators"))


def test_keys_are_private_and_open_again(operators: Operators) -> None:
    for folder, made in zip(operators.folders, operators.keys, strict=True):
        (opened,) = load_keys(folder)
        assert opened.identity.address == made.identity.address and opened.curve == made.curve
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_card_survives_its_file_and_holds_no_secret(operators: Operators, tmp_path: Path) -> None:
    card, keys = operators.cards[0], operators.keys[0]
    path = tmp_path / "card.toml"
    path.write_text(card.to_text())
    assert Card.load(path) == card
    for secret in (keys.curve.secret, keys.sealing.secret.hex(), keys.identity.secret.hex()):
        assert secret not in card.to_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("host-0.example", "host-6.example"),
        ("peer_port = 7000", "peer_port = 7009"),
        ("client_port = 7001", "client_port = 7009"),
        ("custody_port = 7002", "custody_port = 7009"),
        ("operator 0", "operator 1"),
    ],
)
def test_a_card_that_was_changed_is_refused(operators: Operators, tmp_path: Path, old: str, new: str) -> None:
    text = operators.cards[0].to_text()
    assert text.count(old) == 1
    path = tmp_path / "card.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(BadCard, match="not signed by its account"):
        Card.load(path)


@pytest.mark.parametrize(
    "text",
    ["", "not TOML", "operator = 3", "x = '" + "a" * 9_000 + "'", "host = 'a'\nsignature = 'zz'"],
)
def test_what_is_no_card_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.toml"
    path.write_text(text)
    with pytest.raises(BadCard, match=r"card\.toml"):
        Card.load(path)
    with pytest.raises(BadCard, match="cannot read"):
        Card.load(tmp_path / "none.toml")


def test_a_place_that_cannot_be_reached_is_refused_when_the_card_is_made(operators: Operators) -> None:
    keys = operators.keys[0]
    for listening in (("a b", 1, 2, 3), ("host", 5, 5, 6), ("host", 0, 5, 6), ("", 1, 2, 3), ("host", 1, 2, 1)):
        with pytest.raises(Malformed):
            Card.make("operator", Listening(*listening), keys)
    for operator in ("", "x" * 81, "two\nlines"):
        with pytest.raises(BadCard, match="operator's name"):
            Card.make(operator, Listening("host", 1, 2, 3), keys)


def test_the_order_of_the_cards_changes_nothing(operators: Operators) -> None:
    entries = entries_of_cards(operators.cards)
    assert entries_of_cards(operators.cards[::-1]) == entries
    assert [entry.index for entry in entries] == [0, 1, 2, 3]
    assert [entry.address for entry in entries] == sorted(entry.address for entry in entries)


def test_two_cards_of_one_aggregator_or_place_are_refused(operators: Operators) -> None:
    with pytest.raises(BadCard, match="the same address"):
        entries_of_cards([*operators.cards, operators.cards[0]])
    same_place = Card.make("operator 9", Listening("host-0.example", 7_000, 7_005, 7_006), operators.keys[1])
    with pytest.raises(BadCard, match="the same peer_url"):
        entries_of_cards([operators.cards[0], same_place])
