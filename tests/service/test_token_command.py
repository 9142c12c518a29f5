"""``visavis-token``: what it prints, and how tokens are given out, replaced and taken back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from visavis.service import token_command
from visavis.service.security import API_SCOPES, Tokens, make_token_file, read_token


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("VISAVIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VISAVIS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    path = tmp_path / "tokens" / "api"
    make_token_file(path, "operator")
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert token_command.main(arguments) == 0
    return capsys.readouterr().out.strip()


def test_it_prints_the_first(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == read_token(path).reveal()
    assert said(capsys, "--file") == str(path)
    assert token_command.main(["fleet"]) == 1
    assert "the service makes it when it starts" in capsys.readouterr().err


def test_it_looks_where_the_services_do(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "visavis.toml"
    config.write_text(
        '[inference]\ntokens = "/elsewhere/fleet"\n[orchestrator]\napi_tokens = "/elsewhere/api"\n'
    )
    assert said(capsys, "fleet", "--file") == str(tmp_path / "share" / "visavis" / "tokens" / "fleet")
    monkeypatch.setenv("VISAVIS_CONFIG", str(config))
    assert said(capsys, "--file") == "/elsewhere/api"
    assert said(capsys, "fleet", "--file") == "/elsewhere/fleet"
    monkeypatch.setenv("VISAVIS_INFERENCE_TOKENS", "/here")
    assert said(capsys, "fleet", "--file") == "/here"


def test_one_more_with_few_rights(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = read_token(path).reveal()
    token = said(capsys, "--add", "calls:read,calls:speak", "--name", "crm")
    grant = Tokens(path, API_SCOPES).grant(token)
    assert grant is not None and (grant.name, grant.scopes) == ("crm", {"calls:read", "calls:speak"})
    assert said(capsys) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SystemExit):
        token_command.main(["--add", "calls:everything"])
    assert "no scope is named calls:everything" in capsys.readouterr().err


def test_a_token_is_replaced_in_two_steps(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = said(capsys)
    other = said(capsys, "--add", "status:read", "--name", "probe")
    new = said(capsys, "--rotate")
    known = Tokens(path, API_SCOPES)
    assert known.grant(old) and known.grant(new) and said(capsys) == new != old
    assert said(capsys, "--retire") == new
    known = Tokens(path, API_SCOPES)
    assert known.grant(old) is None and known.grant(new) and known.grant(other)
