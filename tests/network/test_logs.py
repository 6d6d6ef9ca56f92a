"""Log lines for people and for machines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pot_lab.network.aggregator.run import stopped_by
from pot_lab.network.errors import BadConfig
from pot_lab.network.logs import EventLog, log_to_stderr

OWN = ("pot_lab.aggregator", "pot_lab.network.duties")


@pytest.fixture(autouse=True)
def levels_as_in_a_new_process() -> Iterator[None]:
    """Without the levels that tests before have set; everything is put back."""
    root, ours = logging.getLogger(), ("pot_lab", "pot_lab.network", *OWN)
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in ours}
    level = root.level
    for name in ours:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ours:
        logging.getLogger(name).setLevel(levels[name])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What this test logged; threads that another test left behind may log in between."""
    objects = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in objects if line["logger"] in OWN]


def test_an_event_is_one_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info", "json")
    EventLog("pot_lab.aggregator", index=2).warning(
        "peer_muted", peer=1, key=b"\1" * 32, name="a b", at="x\ny", no=None
    )
    (line,) = lines(capsys)
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "pot_lab.aggregator",
        "event": "peer_muted",
        "index": 2,
        "peer": 1,
        "key": "0101010101010101",
        "name": "a b",
        "at_": "x\ny",
        "no": None,
    }


def test_lines_of_others_keep_their_message_and_the_event_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("warning", "json")
    log = logging.getLogger("pot_lab.network.duties")
    log.info("event=unseen")
    log.error("event=epoch_refused epoch=%d reason=%r", 3, 'no "money"\nat all')
    log.warning("plain words")
    first, second = lines(capsys)
    assert first["event"] == "epoch_refused" and first["message"].startswith("event=epoch_refused epoch=3")
    assert "event" not in second and second["message"] == "plain words"


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info", "json")
    try:
        raise ValueError("twice\nas long")
    except ValueError:
        EventLog("pot_lab.aggregator").exception("duty_failed", duty="settle")
    (line,) = lines(capsys)
    assert line["event"] == "duty_failed" and "ValueError: twice" in line["traceback"]


def test_for_people_it_is_key_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info")
    EventLog("pot_lab.aggregator", index=2).info("ready", name="a b")
    assert 'Z info ready index=2 name="a b"\n' in capsys.readouterr().err


def test_the_last_line_of_a_process_has_the_form_of_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    error = BadConfig("two\nlines", seen=1)
    assert stopped_by(3, error, "json") == stopped_by(None, BadConfig("none")) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["event"] == "stopped" and json.loads(first)["rule"] == "BadConfig"
    assert second == "aggregator newcomer stopped: BadConfig: none"
