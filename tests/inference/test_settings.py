"""Settings from environment, TOML file and command line; a wrong one is named in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference_server.__main__ import main
from inference_server.settings import Settings, load
from visavis.service.settings import SettingsError

MAIN = [sys.executable, "-m", "inference_server"]


def test_defaults() -> None:
    settings = load([], {})
    assert (settings.host, settings.port, settings.http_port, settings.engine) == (
        "127.0.0.1",
        50051,
        8500,
        "portrait",
    )
    assert settings.cache_dir.is_absolute()


def test_command_line_wins_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "visavis.toml"
    config.write_text(
        "[inference]\nport = 1\nslots = 2\nwindow_ms = 300\n[inference.engine_settings]\na = 1\nb = true\n"
    )
    env = {"VISAVIS_CONFIG": str(config), "VISAVIS_INFERENCE_SLOTS": "3", "VISAVIS_INFERENCE_PORT": "4"}
    settings = load(["--port", "5"], env)
    assert (settings.port, settings.slots, settings.window_ms) == (5, 3, 300)
    assert settings.engine_settings == {"a": "1", "b": "true"}
    assert load(["--config", str(config)], {}).slots == 2


@pytest.mark.parametrize("text", ["cost_ms_row=1.5,body=loop", '{"cost_ms_row": 1.5, "body": "loop"}'])
def test_engine_settings_in_two_spellings(text: str) -> None:
    assert load([], {"VISAVIS_INFERENCE_ENGINE_SETTINGS": text}).engine_settings == {
        "cost_ms_row": "1.5",
        "body": "loop",
    }


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"VISAVIS_INFERENCE_PORT": "70000"}, r"Setting port .* cannot be '70000': .*65535"),
        ({"VISAVIS_INFERENCE_PORT": "abc"}, r"Setting port .* cannot be 'abc': .*integer"),
        ({"VISAVIS_INFERENCE_PROT": "1"}, r"VISAVIS_INFERENCE_PROT is not a setting"),
        ({"VISAVIS_INFERENCE_ENGINE_SETTINGS": "cost"}, r"name=value"),
        ({"VISAVIS_INFERENCE_ENGINE_SETTINGS": "{oops"}, r"Setting engine_settings"),
        ({"VISAVIS_INFERENCE_LOG_LEVEL": "loud"}, r"Setting log_level .*'debug'"),
        ({"VISAVIS_CONFIG": "/nonexistent.toml"}, r"/nonexistent.toml cannot be read"),
    ],
)
def test_a_wrong_value_is_named(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as error:
        load([], env)
    assert "\n" not in str(error.value)


def test_unknown_names_in_the_file_are_named(tmp_path: Path) -> None:
    config = tmp_path / "visavis.toml"
    config.write_text("[inference]\nprot = 1\n")
    with pytest.raises(SettingsError, match="prot is not a setting"):
        load(["--config", str(config)], {})
    config.write_text("not toml")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(["--config", str(config)], {})


@pytest.mark.process
def test_help_explains_every_setting() -> None:
    said = subprocess.run([*MAIN, "--help"], capture_output=True, text=True, check=True).stdout
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in said and field.description


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(["--port", "x"], "Setting port"), (["--engine", "none"], "installed are")]
)
def test_a_wrong_one_ends_with_2_and_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
