"""Settings: where they come from and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.app import pool_settings
from orchestrator.config import Settings, load_settings
from orchestrator.gateways.sip_media import PRIVATE_NETWORKS, agreement, signalling_peer
from orchestrator.rtp.consent import SignallingPeer
from orchestrator.sip.sdp.capabilities import AudioCapabilities, MediaCapabilities, VideoCapabilities
from orchestrator.sip.sdp.session import SdpSession
from tests.support.sip_fake import AUDIO, VIDEO, sdp


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
        ("PICTURE_MARK", "A.I.", "write one to four letters A to Z, like AI, or nothing for no mark"),
        ("PICTURE_MARK", "ROBOT", "write one to four letters A to Z, like AI, or nothing for no mark"),
        ("GREETNG", "Hello", "VISAVIS_GREETNG is not a setting"),
        ("SIP_USERS", '{"anna": "secret"', "Setting sip_users (VISAVIS_SIP_USERS) cannot be used: "),
        ("ALLOW_FROM", "10.0.0.0/8,home", "'home' is not a network"),
        ("RTP_PORT_MAX", "30001", "one call takes four ports"),
        ("SIP_TLS_PORT", "5061", "sip_tls_port needs sip_tls_certificate and sip_tls_key"),
        ("API_TLS_KEY", "key.pem", "a TLS certificate and its key go together"),
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


def test_no_trade_replaces_a_check_of_another_one() -> None:
    """Settings are one class of several, in which one of two methods of the same name is never called."""
    checks = [trade.__pydantic_decorators__ for trade in Settings.__bases__]
    names = [name for each in checks for name in (*each.model_validators, *each.field_validators)]
    assert len(names) > 5 and len(names) == len(set(names))


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


@pytest.mark.parametrize(
    ("given", "hosts", "signalled", "networks"),
    [
        ("", ("10.0.0.1",), "192.168.1.5", PRIVATE_NETWORKS),
        ("", ("127.0.0.1",), "192.168.1.5", (*PRIVATE_NETWORKS, "127.0.0.0/8")),
        ("", ("10.0.0.1",), "10.0.0.1", ()),  # it signals for itself: nobody else need be learnt
        ("", ("10.0.0.1", "10.0.0.2"), "10.0.0.2", ()),
        ("", ("198.51.100.1",), "192.168.1.5", ()),
        ("none", ("10.0.0.1",), "192.168.1.5", ()),
        ("203.0.113.0/24", ("10.0.0.1",), "10.0.0.1", ("203.0.113.0/24",)),
    ],
)
def test_which_networks_a_phone_is_learnt_from(
    given: str, hosts: tuple[str, ...], signalled: str, networks: tuple[str, ...]
) -> None:
    settings = load_settings(["--media-from", given])
    offer = sdp(AUDIO, address=signalled)
    session = SdpSession()
    session.answer(offer, MediaCapabilities("10.0.0.9", AudioCapabilities(4000)))
    assert session.media is not None
    assert signalling_peer(settings, hosts, session.media) == SignallingPeer(hosts, networks)


def test_media_workers_are_told_how_much_to_log() -> None:
    assert pool_settings(load_settings(["--log-level", "debug"])).setup.log_level == "debug"


def test_a_mark_is_told_to_media_workers_and_to_each_call() -> None:
    settings = load_settings(["--picture-mark", "ki"])
    avatar = pool_settings(settings).setup.avatar
    session = SdpSession()
    here = MediaCapabilities("10.0.0.9", AudioCapabilities(4000), VideoCapabilities(4002, 512, 512))
    session.answer(sdp(AUDIO, VIDEO), here)
    assert session.media is not None
    agreed = agreement(settings, session.media, ("10.0.0.1",), "", None)
    assert avatar is not None and agreed is not None and agreed.video is not None
    assert avatar.mark == agreed.video.encoding.mark == "KI"
    assert load_settings([]).picture_mark == ""


@pytest.mark.parametrize("wrong", ["phones", "none,10.0.0.0/8"])
def test_a_network_that_is_none_is_told(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(["--media-from", wrong])
    assert "is not a network" in capsys.readouterr().err
