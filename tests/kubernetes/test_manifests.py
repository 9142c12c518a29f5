"""The Kubernetes manifests against each other and the code; `kubectl` renders them, no cluster is needed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.autoscale import Policy
from inference_server.frontends.health import LIVE, SERVICE
from inference_server.models.__main__ import _arguments
from inference_server.settings import Settings as InferenceSettings
from inference_server.settings import load as load_inference
from orchestrator.config import Settings as OrchestratorSettings
from orchestrator.config import load_settings
from tests.support.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Object,
    config,
    container,
    expanded,
    find,
    matches,
    render,
    render_folder,
    variables,
    workloads,
)
from tests.support.series import exported
from tests.support.servers import running_server
from visavis.service.settings import CONFIG

pytestmark = pytest.mark.process

NAMESPACES = {"inference": "visavis-inference", "orchestrator": "visavis"}
GPU = [name for name in OVERLAYS if name not in ("cpu", "browsers", "endpoint-slices")]
UNITS = {"Ki": 1, "Mi": 1 << 10, "Gi": 1 << 20}
PROCESSES_MIB = {"inference": 2 * 140, "orchestrator": 2 * 496}
"""Twice what the processes of an idle pod hold, listening and voices included: docs/kubernetes.md (*How many*)."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    return {name: render(name) for name in OVERLAYS}


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_what_they_mean(rendered: dict[str, list[Object]], overlay: str) -> None:
    objects = rendered[overlay]
    pods = {name: w["spec"]["template"]["metadata"]["labels"] for name, w in workloads(objects).items()}
    assert set(pods) == {"inference", "orchestrator"}
    for name, workload in workloads(objects).items():
        selector = workload["spec"]["selector"]["matchLabels"]
        assert [n for n, labels in pods.items() if matches(selector, labels)] == [name]
        affinity = workload["spec"]["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
        for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []):
            assert matches(term["podAffinityTerm"]["labelSelector"]["matchLabels"], pods[name])
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        assert [term["topologyKey"] for term in required] == ["kubernetes.io/hostname"] * (
            name == "orchestrator"
        )
        for term in required:
            assert matches(term["labelSelector"]["matchLabels"], pods[name])
    services = [o for o in objects if o["kind"] == "Service"]
    for service in services:
        hit = [n for n, labels in pods.items() if matches(service["spec"]["selector"], labels)]
        assert len(hit) == 1, service["metadata"]["name"]
        ports = {p["name"]: p["containerPort"] for p in container(workloads(objects)[hit[0]])["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for budget in (o for o in objects if o["kind"] == "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [n for n, labels in pods.items() if matches(selector, labels)] == [budget["metadata"]["name"]]
    for policy in (o for o in objects if o["kind"] == "NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        if policy["metadata"]["name"] == "deletion-cost":
            continue
        hit = [n for n, labels in pods.items() if matches(selector, labels)]
        assert set(hit) == ({"inference"} if selector else set(pods))
        names = {p["name"] for p in container(workloads(objects)["inference"])["ports"]}
        for rule in policy["spec"].get("ingress", []):
            assert {p["port"] for p in rule["ports"]} <= names
    for monitor in (o for o in objects if o["kind"] == "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [s for s in services if matches(selector, s["metadata"]["labels"])]
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in {p["name"] for p in service["spec"]["ports"]}
            assert endpoint["path"] == "/metrics"


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_references_lead_somewhere(rendered: dict[str, list[Object]], overlay: str) -> None:
    objects = rendered[overlay]
    for name, workload in workloads(objects).items():
        spec = workload["spec"]["template"]["spec"]
        account = find(objects, "ServiceAccount", spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        asks_the_api = (overlay, name) == ("endpoint-slices", "orchestrator")
        assert spec["automountServiceAccountToken"] is asks_the_api
        find(objects, "PriorityClass", spec["priorityClassName"])
        volumes = {v["name"] for v in spec["volumes"]}
        used: set[str] = set()
        for one in [*spec["containers"], *spec.get("initContainers", [])]:
            mounts = one["volumeMounts"]
            assert len({m["mountPath"] for m in mounts}) == len(mounts)
            used |= {m["name"] for m in mounts}
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert used == volumes, name
        assert workload["metadata"]["namespace"] == NAMESPACES[name]
        for kind in ("ServiceAccount", "PodDisruptionBudget"):
            assert find(objects, kind, name)["metadata"]["namespace"] == NAMESPACES[name]
        for source in container(workload)["envFrom"]:
            found = find(objects, "ConfigMap", source["configMapRef"]["name"])
            assert found["metadata"]["namespace"] == NAMESPACES[name]
    if overlay == "endpoint-slices":
        (role,) = [o for o in objects if o["kind"] in ("Role", "ClusterRole")]
        (binding,) = [o for o in objects if o["kind"] in ("RoleBinding", "ClusterRoleBinding")]
        assert (role["kind"], binding["kind"]) == ("Role", "RoleBinding")
        slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}
        assert role["rules"] == [slices] and binding["roleRef"]["name"] == role["metadata"]["name"]
        assert [(s["name"], s["namespace"]) for s in binding["subjects"]] == [("orchestrator", "visavis")]
        assert {o["metadata"]["namespace"] for o in (role, binding)} == {NAMESPACES["inference"]}
    elif overlay != "monitoring-deletion-cost":
        assert not [o for o in objects if o["kind"] in ("Role", "RoleBinding", "ClusterRole", "Secret")]
    for scaler in (o for o in objects if o["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")):
        assert scaler["spec"]["scaleTargetRef"]["name"] == "inference"
        assert "replicas" not in workloads(objects)["inference"]["spec"]


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_configuration_is_accepted_by_the_settings(
    rendered: dict[str, list[Object]], overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = rendered[overlay]
    loads = workloads(objects)
    inference = config(objects, loads["inference"])
    settings = load_inference([], inference)
    ports = {p["name"]: p["containerPort"] for p in container(loads["inference"])["ports"]}
    assert (settings.port, settings.http_port) == (ports["grpc"], ports["http"])
    assert set(inference) <= {f"VISAVIS_INFERENCE_{n.upper()}" for n in InferenceSettings.model_fields}

    environment = config(objects, loads["orchestrator"])
    env = {e["name"]: e for e in container(loads["orchestrator"]).get("env", [])}
    assert env["VISAVIS_ADVERTISED_ADDRESS"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP"
    assert {*environment, *env} <= {
        CONFIG,
        *(f"VISAVIS_{n.upper()}" for n in OrchestratorSettings.model_fields),
    }
    mounted = {m["mountPath"]: m["name"] for m in container(loads["orchestrator"])["volumeMounts"]}
    path = Path(environment["VISAVIS_CONFIG"])
    assert mounted[str(path.parent)] == "settings"
    assert path.name == "settings.toml"
    for name in ("VISAVIS_API_TLS_CERTIFICATE", "VISAVIS_API_TLS_KEY"):
        if overlay == "browsers":  # a Secret of type kubernetes.io/tls
            file = Path(environment.pop(name))
            assert mounted[str(file.parent)] == "api-tls" and file.name in ("tls.crt", "tls.key")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    secret = tmp_path / "settings.toml"
    secret.write_text((ROOT / "deploy" / "settings.toml").read_text())
    monkeypatch.setenv("VISAVIS_CONFIG", str(secret))
    orchestrator = load_settings([])
    named = {p["name"]: p["containerPort"] for p in container(loads["orchestrator"])["ports"]}
    assert named == {
        "sip-udp": orchestrator.sip_port,
        "sip-tcp": orchestrator.sip_port,
        "api": orchestrator.api_port,
    }
    service = find(objects, "Service", "inference")
    assert service["spec"]["clusterIP"] == "None"
    assert not service["spec"].get("publishNotReadyAddresses")
    scheme = "kubernetes" if overlay == "endpoint-slices" else "dns"
    assert orchestrator.avatar_servers == [f"{scheme}:///inference.{NAMESPACES['inference']}:{settings.port}"]
    for given in (inference, environment):
        for name in ("VISAVIS_INFERENCE_CACHE_DIR", "VISAVIS_CACHE_DIR", "VISAVIS_DATA_DIR"):
            if name in given:
                load = loads["inference" if given is inference else "orchestrator"]
                assert given[name] in {m["mountPath"] for m in container(load)["volumeMounts"]}


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_grace_is_longer_than_the_drain(rendered: dict[str, list[Object]], overlay: str) -> None:
    objects = rendered[overlay]
    for name, variable in (("inference", "VISAVIS_INFERENCE_DRAIN_S"), ("orchestrator", "VISAVIS_DRAIN_S")):
        workload = workloads(objects)[name]
        drain = float(config(objects, workload)[variable])
        assert drain > 0
        assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 20
    surge = workloads(objects)["inference"]["spec"]["strategy"]["rollingUpdate"]
    assert surge == {"maxSurge": 1, "maxUnavailable": 0}
    calls = workloads(objects)["orchestrator"]
    assert calls["kind"] == "Deployment"
    assert calls["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 1}
    grace = calls["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert calls["spec"]["progressDeadlineSeconds"] > grace


def kib(quantity: str) -> int:
    """A Kubernetes quantity of bytes, in KiB."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def volume_sizes(workload: Object, medium: str | None) -> int:
    """Limits of all emptyDirs in memory, or (``None``) on disk, in KiB."""
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    chosen = [v["emptyDir"] for v in volumes if "emptyDir" in v and v["emptyDir"].get("medium") == medium]
    return sum(kib(each["sizeLimit"]) for each in chosen)


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_adds_up(rendered: dict[str, list[Object]], overlay: str) -> None:
    """What a pod may hold at most: its processes, avatars in the engine, and volumes in memory."""
    for name, workload in workloads(rendered[overlay]).items():
        resources = container(workload)["resources"]
        held = PROCESSES_MIB[name] * 1024 + volume_sizes(workload, "Memory")
        if name == "inference":
            settings = load_inference([], config(rendered[overlay], workload))
            held += settings.avatar_memory_mib * 1024
        assert volume_sizes(workload, "Memory") > 0
        assert held <= kib(resources["limits"]["memory"]), name
        assert PROCESSES_MIB[name] * 1024 <= kib(resources["requests"]["memory"]), name


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_disk_adds_up(rendered: dict[str, list[Object]], overlay: str) -> None:
    """A pod whose volumes and logs outgrow its ephemeral storage is evicted, and its calls with it."""
    logs = 100 << 10  # kubelet: five files of 10 MiB, twice while they are rotated
    for name, workload in workloads(rendered[overlay]).items():
        values = config(rendered[overlay], workload)
        resources = container(workload)["resources"]
        on_disk = volume_sizes(workload, None)
        assert on_disk + logs <= kib(resources["limits"]["ephemeral-storage"]), name
        sizes = {v["name"]: v.get("emptyDir", {}).get("sizeLimit") for v in
                 workload["spec"]["template"]["spec"]["volumes"]}  # fmt: skip
        if name == "inference":
            settings = load_inference([], values)
            assert settings.cache_disk_mib * 1024 * 1.1 <= kib(
                sizes["cache"]
            )  # one more is written before one goes
            mounted = {m["mountPath"]: m["name"] for m in container(workload)["volumeMounts"]}
            converted = settings.engine_settings.get("cache_dir")
            if converted:  # gigabytes that nothing removes: a volume of their own
                assert sizes[mounted[converted]] is None and not converted.startswith("/var/cache/visavis")
        else:
            assert OrchestratorSettings().cache_bytes / 1024 * 1.1 <= kib(sizes["cache"])


@pytest.mark.peer
@pytest.mark.parametrize("overlay", GPU)
def test_gpu_and_models(rendered: dict[str, list[Object]], overlay: str) -> None:
    objects = rendered[overlay]
    workload = workloads(objects)["inference"]
    one = container(workload)
    assert one["resources"]["limits"]["nvidia.com/gpu"] == one["resources"]["requests"]["nvidia.com/gpu"] == 1
    (init,) = workload["spec"]["template"]["spec"]["initContainers"]
    assert init["image"] == one["image"]
    assert init["image"].endswith("-cuda")
    assert init["command"] == ["python", "-m", "inference_server.models"]
    options = _arguments().parse_args(expanded(init["args"], variables(objects, init)))
    settings = load_inference([], config(objects, workload))
    assert settings.engine_settings["decoder"] == options.decoder == "sd-vae"
    token = Path(next(e["value"] for e in init["env"] if e["name"] == "HF_TOKEN_PATH"))
    (secret,) = [m["name"] for m in init["volumeMounts"] if m["mountPath"] == str(token.parent)]
    volumes = {v["name"]: v for v in workload["spec"]["template"]["spec"]["volumes"]}
    assert volumes[secret]["secret"]["optional"] is True
    assert secret not in {m["name"] for m in one["volumeMounts"]}
    assert "HF_TOKEN" not in {e["name"] for each in (init, one) for e in each["env"]}
    assert settings.engine == "musetalk"
    assert settings.engine_settings["musetalk_dir"] == str(options.dir)
    assert settings.engine_settings["version"] == options.version
    assert str(options.dir) in {m["mountPath"] for m in init["volumeMounts"]}
    mount = next(m for m in one["volumeMounts"] if m["mountPath"] == str(options.dir))
    assert mount["readOnly"] is True
    fetches = [
        o for o in objects if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "inference-models"
    ]
    assert init["args"][0] == ("check" if overlay == "gpu-claim" else "download")
    assert bool(fetches) == (init["args"][0] == "download")


def pods_of(objects: list[Object]) -> list[tuple[str, Object]]:
    """Namespace and spec of every pod that a Deployment or a Job makes."""
    kinds = ("Deployment", "DaemonSet", "Job")
    return [
        (o["metadata"]["namespace"], o["spec"]["template"]["spec"]) for o in objects if o["kind"] in kinds
    ]


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_inference_is_apart_from_calls_and_restricted(
    rendered: dict[str, list[Object]], overlay: str
) -> None:
    """What Pod Security's level `restricted` asks of a pod; what an API server makes of it was not run."""
    objects = list(rendered[overlay])
    if overlay == "gpu-claim":
        job = KUBERNETES / "components" / "models-claim" / "fill-models.yaml"
        objects += list(yaml.safe_load_all(job.read_text()))
    levels = {
        name: find(objects, "Namespace", name)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for name in NAMESPACES.values()
    }
    assert levels == {"visavis": "privileged", "visavis-inference": "restricted"}
    pods = pods_of(objects)
    assert [spec["serviceAccountName"] for name, spec in pods if name == "visavis"] == ["orchestrator"]
    volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
    }
    for name, spec in pods:
        if name == "visavis":
            continue
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(v) - {"name"} <= volumes | {"secret"} for v in spec["volumes"])
        for one in [*spec["containers"], *spec.get("initContainers", [])]:
            assert one["securityContext"]["allowPrivilegeEscalation"] is False
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in one.get("ports", []))
    # in either namespace nothing is let in or out that no policy names
    denied = [o for o in objects if (o["kind"], o["metadata"]["name"]) == ("NetworkPolicy", "default-deny")]
    assert {o["metadata"]["namespace"] for o in denied} == set(NAMESPACES.values())
    assert {o["metadata"].get("namespace", "") for o in objects} <= {"", *NAMESPACES.values()}


@pytest.mark.peer
def test_one_setting_changes_the_decoder_everywhere(tmp_path: Path) -> None:
    base = os.path.relpath(KUBERNETES / "overlays" / "gpu", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{base}]\nconfigMapGenerator:\n"
        "  - {name: models, namespace: visavis-inference, behavior: merge, literals: [decoder=taesd]}\n"
    )
    objects = render_folder(tmp_path)
    workload = workloads(objects)["inference"]
    (init,) = workload["spec"]["template"]["spec"]["initContainers"]
    options = _arguments().parse_args(expanded(init["args"], variables(objects, init)))
    settings = load_inference([], config(objects, workload))
    assert settings.engine_settings["decoder"] == options.decoder == "taesd"


@pytest.mark.peer
def test_the_job_that_fills_the_claim_fits_the_pods_that_read_it(rendered: dict[str, list[Object]]) -> None:
    text = (KUBERNETES / "components" / "models-claim" / "fill-models.yaml").read_text()
    job, policy = [o for o in yaml.safe_load_all(text) if o]
    pod = job["spec"]["template"]
    (one,) = pod["spec"]["containers"]
    options = _arguments().parse_args(one["args"])
    assert options.run.__name__ == "_download" and str(options.dir) in {
        m["mountPath"] for m in one["volumeMounts"]
    }
    claim = find(rendered["gpu-claim"], "PersistentVolumeClaim", "models")["metadata"]["name"]
    volumes = workloads(rendered["gpu-claim"])["inference"]["spec"]["template"]["spec"]["volumes"]
    read = next(v["persistentVolumeClaim"] for v in volumes if v["name"] == "models")
    assert read == {"claimName": claim, "readOnly": True}
    assert {"claimName": claim} in [v.get("persistentVolumeClaim") for v in pod["spec"]["volumes"]]
    assert matches(policy["spec"]["podSelector"]["matchLabels"], pod["metadata"]["labels"])


def probes(workload: Object) -> dict[str, Object]:
    one = container(workload)
    return {kind: one[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_orchestrator_probes_are_real_routes(rendered: dict[str, list[Object]], overlay: str) -> None:
    from orchestrator.api import operations

    routes = {route.path for route in operations.probes.routes}
    workload = workloads(rendered[overlay])["orchestrator"]
    found = probes(workload)
    assert {k: p["httpGet"]["path"] for k, p in found.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert {p["httpGet"]["path"] for p in found.values()} <= routes
    port = config(rendered[overlay], workload)["VISAVIS_API_PORT"]
    assert {str(p["httpGet"]["port"]) for p in found.values()} == {port}
    tls = "VISAVIS_API_TLS_CERTIFICATE" in {e["name"] for e in container(workload)["env"]}
    assert {p["httpGet"].get("scheme", "HTTP") for p in found.values()} == {"HTTPS" if tls else "HTTP"}
    # the API listens where the probes ask: on the loopback, or at the node's address
    own = {e["name"]: e for e in container(workload)["env"]}
    hosts = {p["httpGet"].get("host") for p in found.values()}
    assert hosts == ({None} if "VISAVIS_API_HOST" in own else {"127.0.0.1"})


@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_inference_probes_ask_grpc(rendered: dict[str, list[Object]], overlay: str) -> None:
    workload = workloads(rendered[overlay])["inference"]
    assert {k: p["grpc"]["service"] for k, p in probes(workload).items()} == {
        "startup": SERVICE,
        "readiness": SERVICE,
        "liveness": LIVE,
    }
    port = int(config(rendered[overlay], workload)["VISAVIS_INFERENCE_PORT"])
    assert {p["grpc"]["port"] for p in probes(workload).values()} == {port}


async def test_what_the_health_services_say() -> None:
    """An engine that is lost makes the server not ready, and never not alive."""
    serving = health_pb2.HealthCheckResponse.SERVING
    async with running_server() as server, grpc.aio.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def until(service: str, wanted: bool) -> None:
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60):
                if (answer.status == serving) == wanted:
                    return

        await until(SERVICE, True)
        lost = asyncio.create_task(until(SERVICE, False))
        died = asyncio.create_task(until(LIVE, False))
        await until(LIVE, True)
        os.kill(server.engine_pid, signal.SIGKILL)
        await lost
        await until(SERVICE, True)  # it has started another engine
        assert not died.done()
        died.cancel()


def scaling(objects: list[Object]) -> Object:
    keda = [o["spec"] for o in objects if o["kind"] == "ScaledObject"]
    hpa = [o["spec"] for o in objects if o["kind"] == "HorizontalPodAutoscaler"]
    assert len(keda) + len(hpa) == 1
    return dict((keda or hpa)[0])


@pytest.mark.peer
@pytest.mark.parametrize(("suffix", "target"), [("", 0.7), ("-slow-start", 0.5)])
def test_both_autoscalers_have_the_same_policy(
    rendered: dict[str, list[Object]], suffix: str, target: float
) -> None:
    keda = scaling(rendered[f"monitoring{suffix}"])
    hpa = scaling(rendered[f"monitoring-hpa{suffix}"])
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    (trigger,), (metric,) = keda["triggers"], hpa["metrics"]
    assert float(trigger["metadata"]["threshold"]) == target
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": f"{1000 * target:.0f}m"}
    adapter = yaml.safe_load((KUBERNETES / "components" / "hpa" / "adapter-rules.yaml").read_text())
    (rule,) = adapter["rules"]["external"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="visavis-inference"')
    assert query == trigger["metadata"]["query"]
    assert (
        "visavis_turns_without_slot" in query
    )  # in an overload used slots say no more than that all are taken
    for query in (trigger["metadata"]["query"], rule["metricsQuery"], rule["seriesQuery"]):
        names = set(re.findall(r"visavis_\w+", query))
        assert names and names <= exported()
    assert keda["fallback"]["replicas"] <= keda["maxReplicaCount"]


@pytest.mark.peer
@pytest.mark.parametrize("component", ["", "slow-start"])
def test_the_simulation_and_the_docs_have_the_policy_of_the_manifests(
    rendered: dict[str, list[Object]], component: str
) -> None:
    policy = Policy.from_manifest(component)
    keda = scaling(rendered[f"monitoring-{component}" if component else "monitoring"])
    assert policy.behavior == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert str(policy.target) == keda["triggers"][0]["metadata"]["threshold"]
    assert (policy.least, policy.most) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert policy.sentence in (ROOT / "docs" / "kubernetes.md").read_text()


@pytest.mark.peer
def test_alerts_are_those_of_one_machine_and_more(rendered: dict[str, list[Object]]) -> None:
    rule = find(rendered["monitoring"], "PrometheusRule", "visavis")
    shared = yaml.safe_load((ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())["groups"]
    assert rule["spec"]["groups"][: len(shared)] == shared
    alerts = [r["alert"] for g in rule["spec"]["groups"] for r in g["rules"]]
    assert len(set(alerts)) == len(alerts)
    expressions = [r["expr"] for g in rule["spec"]["groups"] for r in g["rules"]]
    assert {name for text in expressions for name in re.findall(r"visavis_\w+", text)} <= exported()


@pytest.mark.peer
def test_dashboard_is_the_one_of_the_compose_file(rendered: dict[str, list[Object]]) -> None:
    board = find(rendered["monitoring"], "ConfigMap", "visavis-dashboard")
    source = ROOT / "deploy" / "monitoring" / "grafana" / "dashboards" / "visavis.json"
    assert board["data"]["visavis.json"] == source.read_text()
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
