"""Logs: one JSON object a line, or lines for people; our dependencies' loggers in the same form."""

import json
import logging

import pytest
import structlog

from peerd.cli.logging import configure


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_hold_level_time_event_and_fields(capsys):
    """Below the level nothing is printed."""
    configure("json", "info")
    log = structlog.get_logger("x")
    log.debug("hidden")
    log.info("shown", peer="west")
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["peer"]) == ("shown", "info", "west")
    assert record["timestamp"].endswith("Z")


def test_exceptions_are_text_in_one_line(capsys):
    """A traceback must not break a log of one object a line."""
    configure("json", "info")
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_the_standard_librarys_loggers_take_the_same_form(capsys):
    """asyncio and grpc log their warnings there."""
    configure("json", "info")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("chatter")
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["level"]) == ("slow callback", "warning")


def test_console_lines_are_for_people(capsys):
    """And auto is JSON where nobody watches."""
    configure("console", "info")
    structlog.get_logger().info("shown", peer="west")
    assert "shown" in (text := capsys.readouterr().err)
    assert not text.startswith("{")
    structlog.reset_defaults()
    configure("auto", "info")
    structlog.get_logger().info("shown")
    assert capsys.readouterr().err.startswith("{")
