"""Logs of every process: one JSON line per event, whatever logs it."""

import contextlib
import json
import logging
import os
import subprocess
import sys

import pytest

from visavis.service import logs
from visavis.service.logs import JsonFormatter, Log, configure_logging, without_numbers
from visavis.service.text import read_json

SCRIPT = """
import logging
from visavis.service.logs import Log, configure_logging

configure_logging("info")
log = Log("inference_server", server="a").bind(session_id="s1")
log.info("stream_opened", name="a field that a log record has too", level="and one of ours")
log.debug("not asked for")
logging.getLogger("orchestrator.calls.call").info("ended", extra={"call": "c1"})
logging.getLogger("httpx").info("another library's chatter")
logging.getLogger("httpx").warning("100 % of it")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("visavis.client.stream").exception("failed")
    log.exception("failed", session_id="s2")
log.exception("failed", ZeroDivisionError("told later"))
"""


@pytest.mark.process
def test_one_json_line_per_event() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in told.stderr.splitlines()]

    assert [line["event"] for line in lines] == ["stream_opened", "ended", "100 % of it", *["failed"] * 3]
    opened, ended, _, *failed = lines
    assert (opened["server"], opened["session_id"]) == ("a", "s1")
    assert opened["name"] == "a field that a log record has too"
    assert (opened["level"], opened["logger"]) == ("info", "inference_server")
    assert (ended["level"], ended["logger"], ended["call"]) == ("info", "orchestrator.calls.call", "c1")
    assert all("ZeroDivisionError" in line["error"] for line in failed)
    assert "told later" in failed[2]["error"]
    assert all(line["time"].endswith("Z") for line in lines)


@pytest.mark.process
def test_a_terminal_gets_lines_to_read() -> None:
    script = (
        "import logging\nfrom visavis.service.logs import Log, configure_logging\nconfigure_logging()\n"
        "log = Log('orchestrator.calls', call='c1')\n"
        "log.info('answered', sip={'udp': ['127.0.0.1:5060']}, ms=1.5, reason='', caller='a \\x1b[2J b')\n"
        "logging.getLogger('orchestrator').warning('late', extra={'reason': 'x'})\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')\n"
    )
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as ours_file:
        with os.fdopen(theirs, "wb") as theirs_file:
            subprocess.run([sys.executable, "-c", script], stderr=theirs_file, check=True)
        told = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while more := ours_file.read(65536):
                told += more
        lines = told.decode().replace("\r\n", "\n").splitlines()
    assert [line[8:] for line in lines[:3]] == [
        ' orchestrator answered call=c1 sip=udp:127.0.0.1:5060 ms=1.5 caller="a \\x1b[2J b"',
        " orchestrator WARNING late reason=x",
        " orchestrator ERROR failed call=c1",
    ]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_in_an_ordinary_application_the_message_says_it_all(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("visavis.anything", session="s1").bind(server="")
    with caplog.at_level(logging.INFO):
        log.warning("avatar_not_prepared", reason='no server at "a:1"\ncan be used', count=0)
        log.info("nothing_else")
        Log("visavis.anything").info("bare")
    assert [record.getMessage() for record in caplog.records] == [
        'avatar_not_prepared: session=s1 reason="no server at \\"a:1\\"\\ncan be used" count=0',
        "nothing_else: session=s1",
        "bare",
    ]
    assert caplog.records[0].msg == "avatar_not_prepared"
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["event"], line["session"], line["count"]) == ("avatar_not_prepared", "s1", 0)


def test_an_exception_says_its_fields_too(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a mistake")
    except ValueError:
        Log("visavis.anything").exception("failed", of="anna")
    assert caplog.records[0].getMessage() == "failed: of=anna" and "a mistake" in caplog.text


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": [1e999]}', '{"a": -Infinity}', "{", b"\xff", "", "[" * 100_000]
)
def test_json_of_a_peer_that_could_not_be_sent_on_is_none(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_half_a_surrogate_pair_is_replaced_wherever_it_stands() -> None:
    told = read_json(r'{"\ud800": ["x\udfffy", {"b": "\ud83d\ude00"}], "n": 1.5}')
    assert told == {"?": ["x?y", {"b": "\U0001f600"}], "n": 1.5}


@pytest.mark.parametrize(
    ("party", "told"),
    [
        ("sip:+4930123456@10.0.0.1:5060", "sip:+…456@10.0.0.1:5060"),
        ("tel:+49-30-123456", "tel:+…456"),
        ("sip:+1-212-555-0101@10.0.0.1", "sip:+…101@10.0.0.1"),
        ("+1(212)555.0101", "+…101"),
        ("sip:anna@192.168.100.200:30000", "sip:anna@192.168.100.200:30000"),
        ("sip:127.0.0.1:5060", "sip:127.0.0.1:5060"),
        ("sips:192.168.100.200:30000", "sips:192.168.100.200:30000"),
        ("112", "112"),
    ],
)
def test_numbers_of_callers_are_shortened_where_that_is_wanted(
    caplog: pytest.LogCaptureFixture, party: str, told: str
) -> None:
    Log("orchestrator.calls.call").error("answered", caller=party, dialled=party, call="123456789", seconds=5)
    assert without_numbers(caplog.records[0])
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["caller"], line["dialled"], line["call"], line["seconds"]) == (told, told, "123456789", 5)


@pytest.mark.parametrize("numbers", [True, False])
def test_whether_numbers_are_shortened_is_a_setting(monkeypatch: pytest.MonkeyPatch, numbers: bool) -> None:
    monkeypatch.setattr(logs, "_OURS", ())
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    try:
        configure_logging("info", numbers=numbers)
        (handler,) = root.handlers
        assert (without_numbers in handler.filters) is not numbers
    finally:
        root.handlers[:] = before
        root.setLevel(level)
