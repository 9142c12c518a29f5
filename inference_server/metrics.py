"""Prometheus metrics of one server, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.08, 0.15, 0.3, 1.0)


class Metrics:
    """Names begin with ``visavis_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.without_token = Gauge(
            "visavis_requests_without_token", "Requests served without a token since the start", registry=r
        )
        self.sessions = Gauge("visavis_sessions", "Streams open now", registry=r)
        self.slots_total = Gauge("visavis_speaking_slots_total", "Streams that may speak at once", registry=r)
        self.slots_used = Gauge("visavis_speaking_slots_used", "Streams that speak now", registry=r)
        self.ready = Gauge("visavis_engine_ready", "1 while the engine can draw", registry=r)
        self.devices = Gauge("visavis_engine_devices", "Devices of the engine, ready or not", registry=r)
        self.devices_ready = Gauge(
            "visavis_engine_devices_ready", "Of these, those that can draw", registry=r
        )
        self.draining = Gauge("visavis_draining", "1 while the server drains", registry=r)
        self.engine_restarts = Counter("visavis_engine_restarts", "Engine processes lost", registry=r)
        self.frames = Counter(
            "visavis_inference_frames", "Frames by what became of them", ["kind"], registry=r
        )
        self.frames_late = Counter(
            "visavis_inference_frames_late", "Frames not rendered: their moment had passed", registry=r
        )
        self.frames_dropped = Counter(
            "visavis_inference_frames_dropped", "Frames dropped before a slow reader", registry=r
        )
        self.turns = Counter("visavis_turns", "Turns by outcome", ["outcome"], registry=r)
        self.batches_failed = Counter("visavis_batches_failed", "Batches that the engine lost", registry=r)
        self.batch_seconds = Histogram(
            "visavis_batch_seconds", "Time of a batch in the engine", buckets=_LATENCY, registry=r
        )
        self.batch_rows = Histogram(
            "visavis_batch_rows", "Rows of a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=r
        )
        self.first_frame_seconds = Histogram(
            "visavis_first_frame_seconds",
            "First audio to first frame of a turn",
            buckets=_LATENCY,
            registry=r,
        )
        self.preparations = Counter(
            "visavis_preparations", "Avatars prepared by outcome", ["outcome"], registry=r
        )
        self.avatars_resident_bytes = Gauge(
            "visavis_avatar_resident_bytes", "Avatars in the engine", registry=r
        )
        self.engine_memory_bytes = Gauge("visavis_engine_memory_bytes", "Memory the engine uses", registry=r)
