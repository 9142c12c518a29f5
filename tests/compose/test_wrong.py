"""What a person sees who sets something wrong: one clear sentence and a status, never a silent loop."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.docker_outside import outside
from tests.peers.docker_project import Project, project, sentences, wait_until

pytestmark = [pytest.mark.container, pytest.mark.process]

WITHOUT_ADVERTISED_ADDRESS = """
services:
  orchestrator:
    environment:
      VISAVIS_ADVERTISED_ADDRESS: ""
"""


def first_run(stack: Project, service: str, *words: str) -> tuple[int, str]:
    """Exit status and text of one run, without restarts."""
    done = stack.compose("run", "--rm", "--no-deps", service, *words, check=False)
    said = [
        line for line in sentences(done.stderr + done.stdout) if not line.lstrip().startswith("Container ")
    ]
    return done.returncode, "\n".join(line for line in said if "Network" not in line and "Volume" not in line)


@pytest.fixture(scope="module")
def built() -> Iterator[Project]:
    """The images, and a project that is not up."""
    with project() as made:
        made.compose("build", timeout=900)
        yield made


@pytest.mark.parametrize(
    ("service", "setting", "value", "sentence"),
    [
        ("orchestrator", "VISAVIS_SIZE", "513x512", "VISAVIS_SIZE.*odd side"),
        ("orchestrator", "VISAVIS_FPS", "many", "VISAVIS_FPS.*integer"),
        (
            "inference",
            "VISAVIS_INFERENCE_ENGINE",
            "mouth",
            "VISAVIS_INFERENCE_ENGINE.*'mouth'.*installed are",
        ),
        ("inference", "VISAVIS_INFERENCE_PROT", "1", "VISAVIS_INFERENCE_PROT is not a setting"),
        ("inference", "VISAVIS_INFERENCE_SLOTS", "-1", "VISAVIS_INFERENCE_SLOTS.*greater than or equal"),
    ],
)
def test_a_wrong_setting(built: Project, service: str, setting: str, value: str, sentence: str) -> None:
    done = built.compose("run", "--rm", "--no-deps", "--env", f"{setting}={value}", service, check=False)
    said = [line for line in done.stderr.splitlines() if setting in line]
    assert done.returncode == 2, done.stderr
    assert len(said) == 1 and re.search(sentence, said[0]), done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_said_at_every_restart() -> None:
    with project(VISAVIS_INFERENCE_SLOTS="-1") as stack:
        stack.compose("up", "--detach", "--no-deps", "inference")
        wait_until("restarted", lambda: stack.container("inference").attrs["RestartCount"] >= 2)
        restarts = stack.container("inference").attrs["RestartCount"]
        said = stack.logs("inference").count("VISAVIS_INFERENCE_SLOTS")
        assert said >= restarts


def test_a_missing_model_folder(built: Project) -> None:
    done = built.compose(
        "run", "--rm", "--no-deps", "--entrypoint", "python", "inference",
        "-m", "inference_server.models", "check", "--dir", "/models", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "missing" in done.stdout and "visavis-models download" in done.stdout
    assert "Traceback" not in done.stderr


def test_weights_that_cannot_be_downloaded(built: Project) -> None:
    done = built.compose(
        "run", "--rm", "--no-deps", "--entrypoint", "python", "inference", "-m", "inference_server.models",
        "download", "--dir", "/tmp/models", "--hub", "http://127.0.0.1:9", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "visavis-models: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_busy_port(built: Project, kind: socket.SocketKind) -> None:
    port, name = (built.sip_port, "SIP") if kind == socket.SOCK_DGRAM else (built.api_port, "API")
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1" if name == "API" else "0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        status, said = first_run(built, "orchestrator")
    assert status == 1, said
    assert str(port) in said and "Traceback" not in said, said


def test_no_gpu_on_the_gpu_file(built: Project) -> None:
    if "nvidia" in built.engine.info()["Runtimes"]:
        pytest.skip("this engine has a GPU runtime")
    image = f"visavis/inference:test-{built.name}"
    built.engine.images.get("visavis/inference:0.1.0").tag(image)
    with tempfile.TemporaryDirectory() as name:
        # the CPU image under the name of the CUDA one: the engine must refuse before it looks inside
        override = Path(name) / "tag.yml"
        override.write_text(
            f"services:\n  inference: {{image: '{image}', depends_on: !reset {{}}}}\n"
            f"  models: {{image: '{image}'}}\n  names: {{image: '{image}'}}\n"
        )
        with project("docker-compose.gpu.yml", override) as stack:
            done = stack.compose("up", "--detach", "--wait", "--no-build", "inference", check=False)
    built.engine.images.remove(image)
    assert done.returncode != 0
    assert 'could not select device driver "nvidia"' in done.stderr


def test_a_private_address_in_the_answer_is_noticed(built: Project) -> None:
    """On a Docker network without an advertised address a phone elsewhere cannot send: our check must see it."""
    with tempfile.TemporaryDirectory() as name:
        override = Path(name) / "forgotten.yml"
        override.write_text(WITHOUT_ADVERTISED_ADDRESS)
        with (
            project("deploy/compose.bridge.yml", override, VISAVIS_ADVERTISED_ADDRESS="192.0.2.1") as stack,
            outside() as there,
        ):
            stack.up()
            report = there.call(stack.sip_port, 5.0, "5")
            assert report["addresses"] != [there.host]
            assert stack.metric("visavis_dtmf_total") == 0


def test_an_advertised_address_works_on_a_docker_network(built: Project) -> None:
    with (
        outside() as there,
        project("deploy/compose.bridge.yml", VISAVIS_ADVERTISED_ADDRESS=there.host) as stack,
    ):
        stack.up()
        report = there.call(stack.sip_port, 5.0, "5")
        assert report["addresses"] == [there.host]
        assert report["audio_lost"] == 0 and int(str(report["frames"])) > 50
        assert stack.metric("visavis_dtmf_total") == 1
