"""Names and labels of all time series that the two services export."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from inference_server.gpu import GpuMetrics
from inference_server.metrics import Metrics
from orchestrator.archive.archive import ArchiveStatus
from orchestrator.calls.events import CallEvent
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.worker.messages import Heartbeat
from visavis.service.logs import Log


def exported() -> set[str]:
    """As Prometheus stores them: with ``_total``, ``_bucket``, ``_count`` and ``_sum``."""
    return set(labels())


def labels() -> dict[str, set[str]]:
    """The same with the labels that each has, those of the target apart."""
    names: dict[str, set[str]] = {}
    for registry in _registries():
        has = _label_names(registry)
        for name, kind in re.findall(
            r"^# TYPE (\S+) (\S+)$", generate_latest(registry).decode(), re.MULTILINE
        ):
            family = re.sub("_total$" if kind == "counter" else "_created$", "", name)
            own = has[family]
            if kind == "histogram":
                names |= {f"{name}_bucket": own | {"le"}, f"{name}_count": own, f"{name}_sum": own}
            else:
                names[name] = own
    return names


def _label_names(registry: CollectorRegistry) -> dict[str, set[str]]:
    """By the name of a family. What has no sample yet has its labels in an attribute alone."""
    out: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            out[collector._name] = set(collector._labelnames)
        else:
            out |= {family.name: set(cast(Any, family)._labelnames) for family in collector.collect()}
    return out


def _registries() -> tuple[CollectorRegistry, CollectorRegistry]:
    """Of an inference server and of an orchestrator, with everything in them that can be told of."""
    worker = SimpleNamespace(health=Heartbeat(0, 0, False, 0.0, 1, 0.0, 0.0, 0.0, 0.0))
    switchboard = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: None)
    workers = SimpleNamespace(workers=[worker])
    collector = OrchestratorCollector(cast(Any, switchboard), cast(Any, workers), talking_face=lambda: True)
    status = ArchiveStatus("ready", "", 0, 0)
    collector.archive = cast(Any, SimpleNamespace(status=status))
    kept = SimpleNamespace(waiting=0)
    recordings = SimpleNamespace(active=0, failures=0, seconds=0.0, octets=0, kept=kept)
    collector.recordings = cast(Any, recordings)
    collector.count(CallEvent("turn_started", "call", {"wait_ms": 1}))
    collector.count(CallEvent("latency", "call", {"total_ms": 1}))
    collector.conversations = lambda: (0, True)
    server = Metrics().registry
    server.register(GpuMetrics(Log("test")))
    return server, make_registry(collector)
