"""Settings: where they come from and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import load_settings


def test_defaults_work_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings([])
    assert settings.video_size == (512, 512)
    assert (settings.sip_port, settings.api_port, settings.avatar_servers) == (
        5060,
        8080,
        ["127.0.0.1:50051"],
    )


def test_command_line_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "visavis.toml"
    file.write_text('[orchestrator]\nfps = 30\nsize = "640x480"\nmax_calls = 7\n')
    monkeypatch.setenv("VISAVIS_CONFIG", str(file))
    monkeypatch.setenv("VISAVIS_FPS", "20")
    monkeypatch.setenv("VISAVIS_AVATAR_SERVERS", "a:1, dns:///pods:2")
    settings = load_settings(["--size", "320x240"])
    assert (settings.fps, settings.video_size, settings.max_calls) == (20, (320, 240), 7)
    assert settings.avatar_servers == ["a:1", "dns:///pods:2"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "LANGUAGE",
            "tlh",
            "Setting language (VISAVIS_LANGUAGE) cannot be 'tlh': no voice speaks 'tlh': choose one",
        ),
        (
            "SIZE",
            "321x241",
            "Setting size (VISAVIS_SIZE) cannot be '321x241': h.264 4:2:0 video has no odd side: use 320x240.",
        ),
        ("SIZE", "big", "write it as WIDTHxHEIGHT, like 512x512"),
        ("SIZE", "9000x9000", "it must lie within 128x128 and 1920x1920"),
        ("FPS", "many", "VISAVIS_FPS"),
        ("GREETNG", "Hello", "VISAVIS_GREETNG is not a setting"),
        ("SIP_USERS", '{"anna": "secret"', "Setting sip_users (VISAVIS_SIP_USERS) cannot be used: "),
        ("ALLOW_FROM", "10.0.0.0/8,home", "'home' is not a network"),
        ("RTP_PORT_MAX", "30001", "one call takes four ports"),
        ("CONFIG", "/nowhere.toml", "cannot be read"),
    ],
)
def test_a_wrong_value_is_one_clear_sentence(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"VISAVIS_{name}", value)
    with pytest.raises(SystemExit) as stop:
        load_settings([])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert "secret" not in said


def test_an_empty_path_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_AVATAR_IMAGE", "")
    monkeypatch.setenv("VISAVIS_CONFIG", "")
    assert load_settings([]).avatar_image is None


def test_passwords_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_SIP_USERS", '{"anna": "one"}')
    monkeypatch.setenv("VISAVIS_SIP_ACCOUNTS", '[{"uri": "sip:a@pbx", "password": "two", "register": false}]')
    settings = load_settings([])
    assert settings.sip_users["anna"].reveal() == "one"
    (account,) = settings.sip_accounts
    assert account.password.reveal() == "two" and not account.register_
