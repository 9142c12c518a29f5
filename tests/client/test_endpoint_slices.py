"""Servers by the endpoints that Kubernetes' API lists; the API server is made by hand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.fake_server import fake_server
from visavis.client.endpoint_slices import EndpointSlices, ready_of, service_of
from visavis.client.pool import ServerPool

PATH = "/apis/discovery.k8s.io/v1/namespaces/lips/endpointslices"


def part(*endpoints: tuple[str, bool | None], kind: str = "IPv4") -> dict[str, Any]:
    """A slice; ``None`` is an endpoint that does not tell."""
    return {
        "addressType": kind,
        "endpoints": [
            {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
            for address, ready in endpoints
        ],
    }


class Api:
    """Lists slices, or answers with an error."""

    def __init__(self, *slices: dict[str, Any]) -> None:
        self.slices = list(slices)
        self.status = 200

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == PATH
        assert request.url.params["labelSelector"] == "kubernetes.io/service-name=inference"
        return httpx.Response(self.status, json={"items": self.slices})

    def connect(self) -> tuple[httpx.AsyncClient, str]:
        transport = httpx.MockTransport(self.answer)
        return httpx.AsyncClient(base_url="https://api", transport=transport), "lips"


async def test_ready_endpoints_of_all_slices_and_what_is_known_where_the_api_fails() -> None:
    api = Api(
        part(("10.0.0.1", True), ("10.0.0.2", False), ("10.0.0.3", None)),
        part(("fd00::1", True), kind="IPv6"),
    )
    slices = EndpointSlices(api.connect)
    found = ["10.0.0.1:50051", "10.0.0.3:50051", "[fd00::1]:50051"]
    assert await slices.addresses("kubernetes:///inference:50051", []) == found
    assert await slices.addresses("kubernetes:///inference.lips:50051", []) == found
    api.status = 403
    assert await slices.addresses("kubernetes:///inference:50051", found) == found
    api.status, api.slices = 200, [{"endpoints": [{}], "addressType": "IPv4"}]
    assert await slices.addresses("kubernetes:///inference:50051", found) == found  # not what the API says
    api.slices = [{"addressType": "IPv4", "endpoints": None}]
    assert await slices.addresses("kubernetes:///inference:50051", found) == []
    await slices.close()


async def test_outside_of_a_cluster_nothing_changes_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    slices = EndpointSlices()
    assert await slices.addresses("kubernetes:///inference:50051", ["a:1"]) == ["a:1"]
    assert "service account" in str([vars(record) for record in caplog.records])
    await slices.close()


@pytest.mark.parametrize(
    "target", ["kubernetes:///inference", "kubernetes:///:50051", "kubernetes:///a:99999"]
)
def test_another_form_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="is not of the form kubernetes:///"):
        service_of(target)


def test_an_address_counts_once() -> None:
    assert ready_of({"items": [part(("10.0.0.1", True)), part(("10.0.0.1", None))]}, 1) == ["10.0.0.1:1"]


async def test_a_pool_follows_the_endpoints() -> None:
    async with fake_server() as server:
        host, _, port = server.address.rpartition(":")
        api = Api(part((host, False)))
        async with ServerPool([f"kubernetes:///inference:{port}"]) as pool:
            pool._discovery._slices = EndpointSlices(api.connect)
            await pool._discovery.look()
            assert not pool.clients
            api.slices = [part((host, True))]
            await pool._discovery.look()
            await pool.wait_usable(15)
            assert list(pool.clients) == [server.address]
