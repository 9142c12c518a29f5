"""A client of the Kubernetes API, as the pod's service account."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def cluster_client(account: Path = ACCOUNT) -> tuple[httpx.AsyncClient, str]:
    """The client, and the pod's own namespace. Raises ``RuntimeError`` outside of a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if host is None or not (account / "token").is_file():
        raise RuntimeError("this runs in a pod that has a service account's token: see docs/kubernetes.md")
    host = f"[{host}]" if ":" in host else host

    async def sign(request: httpx.Request) -> None:
        request.headers["Authorization"] = f"Bearer {(account / 'token').read_text()}"  # it changes hourly

    client = httpx.AsyncClient(
        base_url=f"https://{host}:{port}",
        verify=ssl.create_default_context(cafile=str(account / "ca.crt")),
        event_hooks={"request": [sign]},
        timeout=10,
    )
    return client, (account / "namespace").read_text().strip()
