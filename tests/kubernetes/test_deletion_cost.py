"""Pods' deletion costs: real inference servers, an API server by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.ports import free_port
from tests.support.avatar_client import portrait
from tests.support.manifests import config, container, find, matches, render, workloads
from tests.support.servers import running_server
from visavis.client.avatar_client import AvatarClient
from visavis.deletion_cost import ANNOTATION, SILENT, PodApi, arguments, main, round_of

SELECTOR = "app.kubernetes.io/name=inference"


def pod(name: str, address: str, ready: str = "True", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, **meta},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
    }


class ApiServer:
    """Lists pods and keeps their annotations."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = {p["metadata"]["name"]: p for p in pods}
        self.patches: list[str] = []
        client = httpx.AsyncClient(base_url="https://api", transport=httpx.MockTransport(self.answer))
        self.api = PodApi(client, "visavis", SELECTOR)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = "/api/v1/namespaces/visavis/pods"
        if request.method == "GET":
            assert request.url.path == path and request.url.params["labelSelector"] == SELECTOR
            return httpx.Response(200, json={"items": list(self.pods.values())})
        assert request.method == "PATCH"
        assert request.headers["Content-Type"] == "application/merge-patch+json"
        name = request.url.path.removeprefix(f"{path}/")
        self.patches.append(name)
        if name not in self.pods:
            return httpx.Response(404, json={"reason": "NotFound"})
        patch = json.loads(request.content)
        assert list(patch) == ["metadata"] and list(patch["metadata"]) == ["annotations"]
        self.pods[name]["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
        return httpx.Response(200, json=self.pods[name])

    def costs(self) -> dict[str, str | None]:
        return {n: p["metadata"].get("annotations", {}).get(ANNOTATION) for n, p in self.pods.items()}


@pytest.mark.process
async def test_the_pod_with_the_fewest_conversations_costs_least() -> None:
    port = free_port()
    async with (
        running_server(host="127.0.0.2", port=port) as busy,
        running_server(host="127.0.0.3", port=port),
        AvatarClient(busy.address) as client,
    ):
        avatar = await client.prepare(portrait(), 128, 96)
        streams = [await client.open(avatar) for _ in range(3)]
        for stream in streams:
            while not stream.connected:
                await anext(aiter(stream))
        server = ApiServer(
            pod("busy", "127.0.0.2"),
            pod("idle", "127.0.0.3"),
            pod("silent", "127.0.0.4"),
            pod("starting", "127.0.0.5", ready="False"),
            pod("going", "127.0.0.6", deletionTimestamp="2026-01-01T00:00:00Z"),
        )
        assert await round_of(server.api, port, dry=True) == {"busy": 3, "idle": 0, "silent": SILENT}
        assert not server.patches
        await round_of(server.api, port)
        assert server.costs() == {"busy": "3", "idle": "0", "silent": "-1", "starting": None, "going": None}
        server.patches.clear()
        await round_of(server.api, port)
        assert not server.patches  # only changes are written
        for stream in streams:
            await stream.close()


async def test_a_pod_that_has_gone_meanwhile_is_no_error_and_a_refusal_is() -> None:
    server = ApiServer(pod("a", "127.0.0.4"))
    (there,) = await server.api.ready()
    server.pods.clear()
    await server.api.write(there, 1)
    forbidden = httpx.AsyncClient(
        base_url="https://api", transport=httpx.MockTransport(lambda _: httpx.Response(403))
    )
    with pytest.raises(httpx.HTTPStatusError):
        await PodApi(forbidden, "visavis", SELECTOR).ready()


def test_outside_of_a_cluster_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main([]) == 2
    assert "service account" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.peer
def test_one_pod_has_the_rights_it_needs_and_no_other_has_any() -> None:
    objects = render("monitoring-deletion-cost")
    deployment = find(objects, "Deployment", "deletion-cost")
    spec = deployment["spec"]["template"]["spec"]
    (binding,) = [o for o in objects if o["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    (role,) = [o for o in objects if o["kind"] in ("Role", "ClusterRole")]
    assert (role["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]}]
    assert [s["name"] for s in binding["subjects"]] == [spec["serviceAccountName"]]
    assert {o["metadata"]["namespace"] for o in (deployment, role, binding)} == {"visavis-inference"}
    find(objects, "ServiceAccount", spec["serviceAccountName"])
    find(objects, "PriorityClass", spec["priorityClassName"])
    assert spec["automountServiceAccountToken"] is True
    for workload in workloads(objects).values():
        assert workload["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.process
@pytest.mark.peer
def test_it_asks_the_pods_that_there_are() -> None:
    objects = render("monitoring-deletion-cost")
    deployment = find(objects, "Deployment", "deletion-cost")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert matches(deployment["spec"]["selector"]["matchLabels"], labels)
    one = container(deployment)
    assert one["image"] == container(workloads(objects)["orchestrator"])["image"]
    assert one["command"] == ["python", "-m", "visavis.deletion_cost"]
    options = arguments().parse_args(one["args"])
    inference = workloads(objects)["inference"]
    name, _, value = options.selector.partition("=")
    assert inference["spec"]["template"]["metadata"]["labels"][name] == value
    port = int(config(objects, inference)["VISAVIS_INFERENCE_PORT"])
    assert options.port == port and options.every >= 15
    # the servers' policy lets it in, and its own lets it out
    admitted = find(objects, "NetworkPolicy", "inference")["spec"]["ingress"][1]["from"][0]
    assert matches(admitted["podSelector"]["matchLabels"], labels)
    policy = find(objects, "NetworkPolicy", "deletion-cost")["spec"]
    assert matches(policy["podSelector"]["matchLabels"], labels)
    assert policy["egress"][0]["ports"] == [{"port": port, "protocol": "TCP"}]


@pytest.mark.process
@pytest.mark.peer
def test_its_rights_are_narrowed_to_one_annotation() -> None:
    """What the API server makes of the expressions was not run."""
    objects = render("monitoring-deletion-cost")
    policy = find(objects, "ValidatingAdmissionPolicy", "visavis-deletion-cost")["spec"]
    binding = find(objects, "ValidatingAdmissionPolicyBinding", "visavis-deletion-cost")["spec"]
    assert (binding["policyName"], binding["validationActions"]) == ("visavis-deletion-cost", ["Deny"])
    (rule,) = policy["matchConstraints"]["resourceRules"]
    assert (rule["resources"], rule["operations"], policy["failurePolicy"]) == (["pods"], ["UPDATE"], "Fail")
    (who,) = policy["matchConditions"]
    account = find(objects, "ServiceAccount", "deletion-cost")["metadata"]
    name = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    assert who["expression"] == f"request.userInfo.username == '{name}'"
    assert {"name": "cost", "expression": f"'{ANNOTATION}'"} in policy["variables"]
    judged = " ".join(each["expression"] for each in policy["validations"])
    assert all(
        part in judged
        for part in ("object.spec == oldObject.spec", "labels", "ownerReferences", "variables.cost")
    )
