"""The files that deploy Visavis against each other and against the code; no container engine is needed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import check_names
from inference_server.settings import Settings as InferenceSettings
from inference_server.settings import load as load_inference
from orchestrator.config import Settings as OrchestratorSettings
from orchestrator.config import load_settings
from tests.support.series import exported
from visavis.service.settings import CONFIG

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = [
    "docker-compose.yml",
    "docker-compose.gpu.yml",
    "deploy/compose.bridge.yml",
    "deploy/compose.gpus.yml",
]


class _Loader(yaml.SafeLoader):
    """YAML with Compose's merge tags taken as plain values."""


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


for _tag in ("!reset", "!override"):
    _Loader.add_constructor(_tag, _plain)


def compose(name: str) -> dict[str, Any]:
    loaded = yaml.load((ROOT / name).read_text(), _Loader)
    assert isinstance(loaded, dict)
    return loaded


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [re.fullmatch(r"#([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines]
    return {pair[1]: pair[2] for pair in pairs if pair}


def fields() -> dict[str, Any]:
    return {
        prefix + name.upper(): field
        for settings, prefix in (
            (OrchestratorSettings, "VISAVIS_"),
            (InferenceSettings, "VISAVIS_INFERENCE_"),
        )
        for name, field in settings.model_fields.items()
    }


def test_the_example_names_every_setting_and_no_other() -> None:
    named = {name for name in example() if name.startswith("VISAVIS_")}
    assert named == {CONFIG, *fields()}


def test_the_example_shows_the_defaults() -> None:
    for name, field in fields().items():
        default = field.get_default(call_default_factory=True)
        shown = example()[name]
        if default is None or default == []:
            assert shown in ("", "[]"), name
        elif isinstance(default, bool):
            assert shown == str(default).lower(), name
        elif isinstance(default, list):
            assert shown == ",".join(default), name
        else:
            assert shown == str(default), name


def test_the_example_can_be_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example().items():
        monkeypatch.setenv(name, value)
    assert load_settings([]) == OrchestratorSettings()
    assert load_inference([], example()) == InferenceSettings()


def test_the_example_and_the_compose_files_name_the_same_variables() -> None:
    used = {name for file in COMPOSE for name in re.findall(r"\$\{([A-Z_]+)", (ROOT / file).read_text())}
    named = {name for name in example() if name.startswith("DEPLOY_")}
    assert named == {name for name in used if name.startswith("DEPLOY_")}
    assert used - named - {CONFIG, *fields()} == {"HF_ENDPOINT"}
    assert {"HF_ENDPOINT", "HF_TOKEN"} <= set(example())


def test_defaults_in_the_compose_files_are_those_of_the_example() -> None:
    for file in COMPOSE:
        for name, default in re.findall(r"\$\{(DEPLOY_[A-Z_]+):-([^}$]*)\}", (ROOT / file).read_text()):
            if "gpu" in file and name == "DEPLOY_INFERENCE_MEMORY":
                continue  # weights and CUDA take more
            assert example()[name] == default, f"{name} in {file}"


@pytest.mark.parametrize("file", COMPOSE)
def test_variables_that_a_container_gets_are_settings(file: str) -> None:
    for service in compose(file)["services"].values():
        for name in service.get("environment", {}):
            if name.startswith("VISAVIS_"):
                assert name in {CONFIG, *fields()}, name


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_every_service_is_hardened(file: str) -> None:
    base = compose("docker-compose.yml")["services"]
    for name, own in compose(file)["services"].items():
        service = {**base.get(name, {}), **own}
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert service["restart"] in ("unless-stopped", "no"), name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
        assert service["mem_limit"] and service["pids_limit"], name
        assert "privileged" not in service and "ulimits" not in service, name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name


def test_images_are_named_by_version() -> None:
    for service in compose("docker-compose.yml")["services"].values():
        tag = service["image"].rpartition(":")[2]
        assert "latest" not in service["image"] and re.search(r"-v?\d", tag), service["image"]


def test_the_server_drains_within_its_grace_period() -> None:
    grace = compose("docker-compose.yml")["services"]["inference"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > InferenceSettings.model_fields["drain_s"].default


@pytest.mark.parametrize("file", sorted(path.name for path in DEPLOY.glob("*.Dockerfile")))
def test_dockerfiles_build_anywhere(file: str) -> None:
    text = (DEPLOY / file).read_text()
    assert "# syntax" not in text  # it would be fetched from a registry of its own
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE)
    assert {base for base in bases if base not in stages} == {"${BASE_IMAGE}"}
    for stage in re.split(r"^FROM ", text, flags=re.MULTILINE):
        if "ENTRYPOINT" in stage and "AS caller" not in stage:
            assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
            assert re.search(r"^HEALTHCHECK ", stage, re.MULTILINE)
    assert "curl" not in text and "http" not in text


@pytest.mark.parametrize("file", sorted(path.name for path in DEPLOY.glob("requirements-*.txt")))
def test_requirements_are_pinned_and_name_no_place(file: str) -> None:
    pinned = (DEPLOY / file).read_text().replace("\\\n", "").splitlines()
    assert pinned
    for line in pinned:
        assert re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9.+!]+( +--hash=sha256:[0-9a-f]{64})+ *", line), line[
            :100
        ]


@pytest.mark.parametrize("file", ["orchestrator.Dockerfile", "inference.Dockerfile"])
def test_images_install_nothing_without_its_hash(file: str) -> None:
    text = (DEPLOY / file).read_text().replace("\\\n", "")
    installs = re.findall(r"pip install [^&\n]*", text)
    assert installs and all(
        "--require-hashes -r" in each or " --target /opt/visavis ." in each for each in installs
    )


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements-orchestrator.txt", ["orchestrator"]),
        ("requirements-inference.txt", ["inference"]),
        ("requirements-inference-cuda.txt", ["inference", "musetalk"]),
    ],
)
def test_requirements_are_those_of_the_project(file: str, extras: list[str]) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (DEPLOY / file).read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name}: run uv pip compile as docs/deploy.md says"
        assert requirement.specifier.contains(pins[name]), (
            f"{name}=={pins[name]} is not {requirement.specifier}"
        )


def taken(service: str) -> set[str]:
    return set(compose("deploy/compose.settings.yml")["services"][service]["environment"])


def test_each_service_takes_its_own_settings_and_no_others() -> None:
    """What concerns one must not restart the other."""
    own = {name for name in fields() if name.startswith("VISAVIS_INFERENCE_")}
    assert taken("inference") == own and taken("orchestrator") == set(fields()) - own
    for name, service in compose("docker-compose.yml")["services"].items():
        if name in ("orchestrator", "inference"):
            assert service["extends"] == {"file": "deploy/compose.settings.yml", "service": name}
        assert "env_file" not in service or name == "names"


def test_what_an_image_sets_is_not_taken_away() -> None:
    """A variable without a value removes the image's own."""
    for service in ("orchestrator", "inference"):
        text = (DEPLOY / f"{service}.Dockerfile").read_text()
        of_image = set(re.findall(r"(VISAVIS_[A-Z_]+)=", text)) & taken(service)
        environment = compose("docker-compose.yml")["services"][service]["environment"]
        assert of_image and all(environment.get(name) for name in of_image)


def test_a_name_that_is_no_setting_is_refused() -> None:
    settings = check_names.known((DEPLOY / "compose.settings.yml").read_text())
    assert set(fields()) | {CONFIG} <= settings
    assert check_names.problems({*fields(), CONFIG}, settings) == []
    (told,) = check_names.problems(["VISAVIS_SIP_PORT", "VISAVIS_SIP_PROT"], settings)
    assert told == "VISAVIS_SIP_PROT is not a setting; is VISAVIS_SIP_PORT meant?"
    (told,) = check_names.problems(["VISAVIS_QQQ"], settings)
    assert "lists them all" in told


def test_a_folder_of_certificates_that_is_not_there_is_an_error() -> None:
    (tls,) = [
        v for v in compose("docker-compose.yml")["services"]["orchestrator"]["volumes"] if "tls" in str(v)
    ]
    assert tls["bind"] == {"create_host_path": False} and tls["read_only"] is True
    assert (DEPLOY / "tls").is_dir()


def test_the_decoder_and_the_token_of_the_hub_go_where_they_are_needed() -> None:
    services = compose("docker-compose.gpu.yml")["services"]
    decoder = "${DEPLOY_MUSETALK_DECODER:-sd-vae}"
    assert f"--decoder={decoder}" in services["models"]["command"]
    assert f",decoder={decoder}" in services["inference"]["environment"]["VISAVIS_INFERENCE_ENGINE_SETTINGS"]
    assert [name for name, s in services.items() if "HF_TOKEN" in s.get("environment", {})] == ["models"]


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_every_image_of_ours_is_built_once(file: str) -> None:
    built: dict[str, list[str]] = {}
    for name, own in compose(file)["services"].items():
        if own.get("image", "").startswith("visavis/") and "build" in own:
            built.setdefault(own["image"], []).append(name)
    assert built and all(len(names) == 1 for names in built.values()), built


def test_only_the_cuda_image_says_that_it_is_for_a_gpu() -> None:
    stages = (DEPLOY / "inference.Dockerfile").read_text().split("\nFROM ")
    said = [stage.splitlines()[0] for stage in stages if "VISAVIS_CUDA_IMAGE=1" in stage]
    assert said == ["runtime AS cuda"]


def test_kernels_can_be_compiled_in_the_cuda_image() -> None:
    """Triton and inductor want a C compiler, and a folder of their own whose files may be executed: no tmpfs."""
    stages = (DEPLOY / "inference.Dockerfile").read_text().split("\nFROM ")
    (cuda,) = [stage for stage in stages if stage.startswith("runtime AS cuda")]
    assert re.search(r"apt-get install .*\bgcc libc6-dev\b", cuda)
    assert cuda.rindex("USER 10001:10001") > cuda.index("gcc libc6-dev")
    inference = compose("docker-compose.yml")["services"]["inference"]
    settings = compose("docker-compose.gpu.yml")["services"]["inference"]["environment"]
    cache = re.search(r"cache_dir=([^,]+),", settings["VISAVIS_INFERENCE_ENGINE_SETTINGS"])
    assert cache is not None
    mounts = dict(volume.split(":")[:2] for volume in inference["volumes"])
    assert cache[1].startswith(mounts["inference-cache"] + "/")
    assert not any(cache[1].startswith(mount.partition(":")[0]) for mount in inference["tmpfs"])


def test_the_cpu_images_have_no_torch() -> None:
    for file in ("requirements-orchestrator.txt", "requirements-inference.txt"):
        assert not re.search(r"^(torch|nvidia|triton)", (DEPLOY / file).read_text(), re.MULTILINE)


def test_the_dashboard_and_the_alerts_use_figures_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "monitoring/grafana/dashboards/visavis.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    alerts = yaml.safe_load((DEPLOY / "monitoring/alerts.yml").read_text())
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    used = {name for text in expressions for name in re.findall(r"visavis_[a-z0-9_]+", text)}
    assert len(used) > 20
    assert used <= exported()


def test_the_dashboard_asks_the_provisioned_source() -> None:
    folder = DEPLOY / "monitoring/grafana"
    source = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    dashboard = json.loads((folder / "dashboards/visavis.json").read_text())
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert uids == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_no_container_is_given_long_to_be_healthy() -> None:
    """Healthy is a process that lives: an engine that reads weights for minutes must not need a longer start."""
    for file in COMPOSE:
        for name, service in compose(file)["services"].items():
            start = service.get("healthcheck", {}).get("start_period", "60s")
            assert start in ("60s", "10s"), (file, name)


def test_no_service_is_started_anew_with_another() -> None:
    """Compose (2.26, for one) starts anew what depends on a service that has changed."""
    for file in ("docker-compose.yml", "docker-compose.gpu.yml", "deploy/compose.gpus.yml"):
        for name, service in compose(file)["services"].items():
            on = set(service.get("depends_on", {}))
            assert name == "demo" or on <= {"models"}, (file, name)


def test_nothing_private_goes_to_the_engine() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert not any(".env" in line or "settings.toml" in line for line in lines if line.startswith("!"))


def test_each_service_has_the_secrets_that_it_needs_and_no_others() -> None:
    services = compose("docker-compose.yml")["services"]

    def secrets(name: str) -> set[str]:
        return {s if isinstance(s, str) else s["source"] for s in services[name].get("secrets", [])}

    def volumes(name: str) -> set[str]:
        given = services[name].get("volumes", [])
        return {v["source"] if isinstance(v, dict) else v.partition(":")[0] for v in given}

    assert secrets("orchestrator") == {"settings"} and secrets("inference") == {"inference_settings"}
    assert volumes("orchestrator") & {"api-tokens", "fleet-tokens"} == {"api-tokens", "fleet-tokens"}
    assert volumes("inference") == {"inference-cache", "fleet-tokens"}
    assert "api-tokens" in volumes("demo") and "fleet-tokens" not in volumes("demo")
    assert not secrets("names") and volumes("names") == {"./deploy/compose.settings.yml"}
    assert "inference" not in tomllib.loads((ROOT / "deploy/settings.toml").read_text())


def test_the_calling_image_has_the_examples_that_its_phone_imports() -> None:
    wanted, looked = ["deploy/demo.py"], set[str]()
    while wanted:
        name = wanted.pop()
        looked.add(name)
        imported = re.findall(r"^from examples\.(\w+) import", (ROOT / name).read_text(), re.MULTILINE)
        wanted += [path for each in imported if (path := f"examples/{each}.py") not in looked]
    examples = {name for name in looked if name.startswith("examples/")}
    assert len(examples) >= 2
    copied = set((ROOT / "deploy/orchestrator.Dockerfile").read_text().split())
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert examples - copied == set() and examples - kept == set()
