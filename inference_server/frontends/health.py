"""The standard gRPC health service: whether new conversations are welcome."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from visavis.service.logs import Log

SERVICE = "visavis.avatar.v1.AvatarService"
LIVE = "live"  # a service that says no more than that this process answers


class Health:
    """Its answers for the server as a whole, for :data:`SERVICE` and for :data:`LIVE`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self, server: Any, ready: bool) -> None:
        """Answer on a ``grpc.aio.Server`` that is not started yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self._set(ready)
        await self._servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)

    def tell(self, ready: bool) -> None:
        """Answer so from soon on; called in the event loop."""
        task = asyncio.create_task(self._tell(ready))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Not ready, whatever was being told."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
        await self._set(False)

    async def _tell(self, ready: bool) -> None:
        try:
            await self._set(ready)
        except Exception:
            self._log.exception("health_not_told", ready=ready)

    async def _set(self, ready: bool) -> None:
        status = (
            health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for service in ("", SERVICE):
            await self._servicer.set(service, status)
