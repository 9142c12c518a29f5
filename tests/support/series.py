"""Names of all time series that the two services export."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import generate_latest

from inference_server.gpu import GpuMetrics
from inference_server.metrics import Metrics
from orchestrator.archive.archive import ArchiveStatus
from orchestrator.calls.events import CallEvent
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.worker.messages import Heartbeat
from visavis.service.logs import Log


def exported() -> set[str]:
    """As Prometheus stores them: with ``_total``, ``_bucket``, ``_count`` and ``_sum``."""
    worker = SimpleNamespace(health=Heartbeat(0, 0, False, 0.0, 1, 0.0, 0.0, 0.0, 0.0))
    switchboard = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: None)
    workers = SimpleNamespace(workers=[worker])
    collector = OrchestratorCollector(cast(Any, switchboard), cast(Any, workers), talking_face=lambda: True)
    status = ArchiveStatus("ready", "", 0, 0)
    collector.archive = cast(Any, SimpleNamespace(status=status))
    recordings = SimpleNamespace(active=0, failures=0, seconds=0.0, octets=0, waiting=0)
    collector.recordings = cast(Any, recordings)
    collector.count(CallEvent("turn_started", "call", {"wait_ms": 1}))
    collector.count(CallEvent("latency", "call", {"total_ms": 1}))
    collector.conversations = lambda: (0, True)
    names = set()
    server = Metrics().registry
    server.register(GpuMetrics(Log("test")))
    for registry in (server, make_registry(collector)):
        for name, kind in re.findall(
            r"^# TYPE (\S+) (\S+)$", generate_latest(registry).decode(), re.MULTILINE
        ):
            names |= (
                {f"{name}{end}" for end in ("_bucket", "_count", "_sum")} if kind == "histogram" else {name}
            )
    return names
