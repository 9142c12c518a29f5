"""Credentials: token files, what a token may do, and which pages are strangers."""

from __future__ import annotations

import base64
import logging
import os
import stat
from pathlib import Path

import pytest

from inference_server.frontends.access import HELP
from visavis.service import listening, origins, security
from visavis.service.security import FLEET_SCOPES, Guard, Refused, Tokens

OLD, NEW = "visavis_old-old-old-old-old", "visavis_new-new-new-new-new"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def tokens(path: Path) -> Tokens:
    return Tokens(path, FLEET_SCOPES, Clock())


def test_the_first_start_makes_one_token_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens" / "fleet"
    assert security.make_token_file(path, "fleet")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    token = security.read_token(path).reveal()
    assert not security.make_token_file(path, "fleet")
    assert security.read_token(path).reveal() == token
    assert [p.name for p in path.parent.iterdir()] == ["fleet"]
    grant = tokens(path).grant(token)
    assert grant is not None and grant.name == "fleet" and grant.scopes == set(FLEET_SCOPES)


def test_a_file_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be made .*nobody is served without credentials"):
        security.need_token_file(tmp_path / "file" / "tokens", "fleet")


def test_old_and_new_tokens_are_valid_while_both_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    path.write_text(f"{OLD}\n")
    known = tokens(path)
    assert known.grant(OLD) and not known.grant(NEW)
    path.write_text(f"{NEW} stream # the next one\n{OLD}\n")
    assert known.grant(OLD) and known.grant(NEW)
    assert security.read_token(path).reveal() == NEW
    path.write_text(f"{NEW} stream\n")
    assert not known.grant(OLD) and known.grant(NEW)


def test_a_file_that_is_gone_for_a_moment_locks_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fleet"
    path.write_text(f"{OLD}\n")
    known = tokens(path)
    assert known.grant(OLD)
    path.rename(tmp_path / "away")
    assert known.grant(OLD) and known.grant(OLD)
    assert [record.msg for record in caplog.records].count("tokens_not_read") == 1
    (tmp_path / "away").rename(path)
    os.utime(path)
    assert known.grant(OLD)


def test_lines_that_are_none_are_told_by_number_and_without_their_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "fleet"
    path.write_text(f"# ours\n\nshort\n{OLD} stream,fly\n{NEW} stream,prepare ivr\n")
    known = tokens(path)
    with caplog.at_level(logging.INFO):
        grant = known.grant(NEW)
    assert grant is not None and grant.name == "ivr" and grant.scopes == {"stream", "prepare"}
    assert known.grant("short") is None and known.grant(OLD) is None
    told = [record.__dict__["fields"] for record in caplog.records]
    assert [(f["line"], f["reason"]) for f in told if "line" in f] == [
        (3, "it has less than 16 characters"),
        (4, "no scope is named fly"),
    ]
    assert OLD not in str(told) and NEW not in str(told) and "short" not in str(told)


def guard(tmp_path: Path, **options: bool) -> Guard:
    path = tmp_path / "fleet"
    path.write_text(f"{OLD} stream reader\n{NEW}\n")
    return Guard(tokens(path), FLEET_SCOPES, "ask the operator.", **options)


def test_who_may_do_what(tmp_path: Path) -> None:
    door = guard(tmp_path)
    assert door.check(f"Bearer {OLD}", "stream").name == "reader"
    assert door.check(f"bearer  {NEW} ", "server").name == "line 2"
    basic = base64.b64encode(f"any:{OLD}".encode()).decode()
    assert door.check(f"Basic {basic}", "stream").name == "reader"
    with pytest.raises(Refused, match="needs the scope server, and has stream") as refused:
        door.check(f"Bearer {OLD}", "server")
    assert not refused.value.unauthenticated
    for wrong, sentence in {
        "": "This request has no token: ask the operator.",
        "Bearer ": "not valid here",
        f"Bearer {OLD}x": "not valid here",
        "Basic %%%": "not valid here",
        "Digest x": "not valid here",
        "Bearer \udcff": "not valid here",
    }.items():
        with pytest.raises(Refused, match=sentence) as refused:
            door.check(wrong, "stream")
        assert refused.value.unauthenticated


def test_a_rollout_takes_clients_without_a_token_and_no_wrong_one(tmp_path: Path) -> None:
    door = guard(tmp_path, insecure=True)
    assert door.check("", "server").name == "anonymous"
    with pytest.raises(Refused):
        door.check("Bearer wrong-wrong-wrong-wrong", "stream")
    assert guard(tmp_path, certificates=True).check("", "prepare").name == "certificate"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "[::1]:8080", "localhost:8500", "192.168.1.9", "inference:8500", "me.example:1"],
)
def test_own_names(host: str) -> None:
    assert origins.is_own_name(host, ["me.example"])


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "a@b.c", "[::1"]
)
def test_names_that_a_strangers_dns_can_give(host: str) -> None:
    assert not origins.is_own_name(host, ["me.example"])


def test_pages_of_other_origins() -> None:
    assert not origins.is_foreign("", "127.0.0.1:8080")
    assert not origins.is_foreign("http://127.0.0.1:8080", "127.0.0.1:8080")
    assert not origins.is_foreign("https://app.example/", "me:1", ["https://app.example"])
    assert not origins.is_foreign("https://app.example", "me:1", ["*"])
    for origin in ("null", "http://127.0.0.1:8081", "http://evil.example", "file://", "http://["):
        assert origins.is_foreign(origin, "127.0.0.1:8080")
    assert origins.is_foreign("null", "")


def test_one_sentence_for_whoever_opens_a_port() -> None:
    def told(host: str, insecure: bool = False, tls: bool = False) -> str:
        return listening.exposure("The API", host, "VISAVIS_API_", insecure=insecure, tls=tls)

    assert told("127.0.0.1") == told("::1") == told("localhost") == told("0.0.0.0", tls=True) == ""
    assert told("0.0.0.0") == (
        "The API listens on 0.0.0.0 without TLS, so that whoever is on the way can read its tokens: keep it inside "
        "a private network, or set VISAVIS_API_TLS_CERTIFICATE and VISAVIS_API_TLS_KEY."
    )
    assert "everybody who reaches this machine may use it" in told("0.0.0.0", insecure=True, tls=True)
    assert "every program of this machine may use it" in told("127.0.0.1", insecure=True)


def test_the_page_quotes_what_is_said() -> None:
    page = " ".join(
        (Path(__file__).parents[2] / "docs/hardening.md").read_text().replace("\n> ", "\n").split()
    )
    assert listening.exposure("The API", "0.0.0.0", "VISAVIS_API_", insecure=False, tls=False) in page
    assert f"This request has no token: {HELP}" in page
