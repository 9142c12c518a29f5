"""Which inference pod goes first when their number shrinks: the one with the fewest conversations.

``python -m visavis.deletion_cost`` runs beside the servers (``deploy/kubernetes/components/deletion-cost``), asks
each ready pod how many conversations it holds, and writes that into the annotation that the ReplicaSet looks at. A
pod that does not answer costs least. Only changes are written, at most once a pod and round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from visavis.client.avatar_client import AvatarClient
from visavis.client.credentials import ServerCredentials
from visavis.errors import VisavisError
from visavis.service.in_cluster import ACCOUNT, cluster_client
from visavis.service.logs import Log, configure_logging

log = Log("visavis.deletion_cost")

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
SILENT = -1
"""Cost of a pod that does not answer."""
_ASK_S = 3.0


class Pod(NamedTuple):
    """``cost`` is the annotation as it is; ``None`` where there is none."""

    name: str
    address: str
    cost: str | None


class PodApi:
    """The two calls of the Kubernetes API that this needs: list and patch pods. Raises ``httpx.HTTPError``."""

    def __init__(self, client: httpx.AsyncClient, namespace: str, selector: str) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector

    @classmethod
    def in_cluster(cls, namespace: str, selector: str, account: Path = ACCOUNT) -> PodApi:
        """As the pod's service account. Raises ``RuntimeError`` outside of a cluster."""
        client, own = cluster_client(account)
        return cls(client, namespace or own, selector)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ready(self) -> list[Pod]:
        """Pods of the selector that are ready and not on their way out."""
        answer = await self._client.get(self._path, params={"labelSelector": self._selector})
        answer.raise_for_status()
        pods = []
        for pod in answer.json()["items"]:
            meta, status = pod["metadata"], pod.get("status", {})
            ready = {"type": "Ready", "status": "True"}.items()
            if not meta.get("deletionTimestamp") and any(
                ready <= condition.items() for condition in status.get("conditions", ())
            ):
                pods.append(Pod(meta["name"], status["podIP"], meta.get("annotations", {}).get(ANNOTATION)))
        return pods

    async def write(self, pod: Pod, cost: int) -> None:
        """Set the annotation."""
        answer = await self._client.patch(
            f"{self._path}/{pod.name}",
            json={"metadata": {"annotations": {ANNOTATION: str(cost)}}},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        if answer.status_code != 404:  # it has gone meanwhile
            answer.raise_for_status()


async def conversations(address: str, credentials: ServerCredentials | None = None) -> int:
    """How many the server holds; :data:`SILENT` where it does not say."""
    with contextlib.suppress(VisavisError, TimeoutError):
        async with asyncio.timeout(_ASK_S), AvatarClient(address, credentials=credentials) as client:
            async for capacity in client.watch_capacity():
                return capacity.sessions
    return SILENT


async def round_of(
    api: PodApi, port: int, dry: bool = False, credentials: ServerCredentials | None = None
) -> dict[str, int]:
    """Ask every pod and write what changed; returns the cost of each."""
    pods = await api.ready()
    hosts = [f"[{pod.address}]" if ":" in pod.address else pod.address for pod in pods]
    costs = await asyncio.gather(*(conversations(f"{host}:{port}", credentials) for host in hosts))
    for pod, cost in zip(pods, costs, strict=True):
        if str(cost) != pod.cost:
            log.info("deletion_cost", pod=pod.name, cost=cost, written=not dry)
            if not dry:
                await api.write(pod, cost)
    return {pod.name: cost for pod, cost in zip(pods, costs, strict=True)}


async def run(
    api: PodApi, port: int, every_s: float, dry: bool, credentials: ServerCredentials | None = None
) -> None:
    """Round after round; a round that fails is told and tried again."""
    while True:
        try:
            await round_of(api, port, dry, credentials)
        except (httpx.HTTPError, KeyError, ValueError) as error:
            log.warning("pods_not_asked", reason=str(error) or type(error).__name__)
        await asyncio.sleep(every_s)


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(prog="python -m visavis.deletion_cost", description=__doc__)
    parser.add_argument("--namespace", default="", help="of the pods; empty: this pod's own")
    parser.add_argument("--selector", default="app.kubernetes.io/name=inference", help="labels of the pods")
    parser.add_argument("--port", type=int, default=50051, help="the servers' gRPC port")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between rounds")
    parser.add_argument("--token-file", default="", help="the servers' token file; empty: VISAVIS_TOKEN")
    parser.add_argument("--dry", action="store_true", help="tell the costs in the log and write nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry; 2 where it cannot run."""
    options = arguments().parse_args(argv)
    configure_logging()

    async def serve() -> None:
        api = PodApi.in_cluster(options.namespace, options.selector)
        try:
            credentials = ServerCredentials(token_file=options.token_file)
            await run(api, options.port, options.every, options.dry, credentials)
        finally:
            await api.close()

    try:
        asyncio.run(serve())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
