"""Avatar servers by ``kubernetes:///service.namespace:port``: the ready endpoints that the cluster's API lists.

For a cluster whose DNS caches for long: a new pod is seen at the next look. The service account needs ``list`` of
``endpointslices`` (discovery.k8s.io/v1) in that namespace. A name without namespace is in the pod's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from visavis.service.logs import Log

if TYPE_CHECKING:
    import httpx

SCHEME = "kubernetes:"
log = Log("visavis.client.pool")


def _in_cluster() -> tuple[httpx.AsyncClient, str]:
    from visavis.service.in_cluster import cluster_client  # httpx, which a client by gRPC can do without

    return cluster_client()


class EndpointSlices:
    """Addresses of Services. ``connect`` makes the API's client and names the pod's namespace."""

    def __init__(self, connect: Callable[[], tuple[httpx.AsyncClient, str]] = _in_cluster) -> None:
        self._connect = connect
        self._api: tuple[httpx.AsyncClient, str] | None = None

    async def addresses(self, target: str, known: Sequence[str]) -> list[str]:
        """``host:port`` of every ready endpoint; ``known`` where the API does not answer. Raises ``ValueError`` for
        a target of another form."""
        import httpx

        name, port = service_of(target)
        service, _, namespace = name.partition(".")
        try:
            if self._api is None:
                self._api = self._connect()
            client, own = self._api
            answer = await client.get(
                f"/apis/discovery.k8s.io/v1/namespaces/{namespace or own}/endpointslices",
                # as the API server has it in memory: many ask
                params={"labelSelector": f"kubernetes.io/service-name={service}", "resourceVersion": "0"},
            )
            answer.raise_for_status()
            return ready_of(answer.json(), port)
        except (httpx.HTTPError, RuntimeError, OSError, LookupError, TypeError, ValueError) as error:
            log.warning("endpoints_not_listed", service=name, reason=str(error) or type(error).__name__)
            return list(known)

    async def close(self) -> None:
        """Close the API's connections."""
        if self._api is not None:
            await self._api[0].aclose()


def service_of(target: str) -> tuple[str, int]:
    """Service and port of ``kubernetes:///service.namespace:port``. Raises ``ValueError`` with what is expected."""
    name, _, port = target.removeprefix(SCHEME).lstrip("/").rpartition(":")
    if not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{target} is not of the form kubernetes:///service.namespace:port")
    return name, int(port)


def ready_of(slices: Any, port: int) -> list[str]:
    """``host:port`` of the endpoints in an ``EndpointSliceList`` that are ready (not told means so)."""
    found: set[str] = set()
    for one in slices["items"]:
        for endpoint in one.get("endpoints") or ():
            if endpoint.get("conditions", {}).get("ready") is not False:
                hosts = (f"[{a}]" if one["addressType"] == "IPv6" else a for a in endpoint["addresses"])
                found |= {f"{host}:{port}" for host in hosts}
    return sorted(found)
