"""Figures of the orchestrator for Prometheus, read when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.archive.archive import Archive
from orchestrator.calls.events import CallEvent, EventBus
from orchestrator.calls.registry import CallRegistry
from orchestrator.recording.recordings import Recordings
from orchestrator.webhook.webhook import Webhook
from orchestrator.worker.pool import WorkerPool
from visavis.service.breaker import ServiceState
from visavis.service.child import ProcessState
from visavis.service.supervisor import Supervisor

OUTCOMES = 50
"""Ways to end that have a label of their own: some name what a phone sent, which may be anything."""
_LIPS = {
    "frames_shown": ("visavis_call_frames_shown", "pictures with the mouth of their moment", 1.0),
    "frames_late": ("visavis_call_frames_late", "ticks whose mouth had not come", 1.0),
    "frames_dropped": ("visavis_call_frames_dropped", "mouths that came too late", 1.0),
    "freeze_ms": ("visavis_call_freeze_seconds", "time of a held picture while speaking", 0.001),
}
"""Figures of a call as its worker reports them: name, text and scale of the metric."""

_STREAMS = {
    "strays": ("visavis_media_strays", "packets from those whom a call does not belong to"),
    "withheld": ("visavis_media_withheld", "packets not sent to addresses that did not ask for them"),
}
"""Figures of each stream of a call, of those under way as well."""

_TOTAL = "total"
_STEPS = ("words", "end_of_turn", "assistant", "voice", "lips")
"""Of an answer's latency."""


def _of_streams(stats: Mapping[str, Any], figure: str) -> int:
    streams = (stats.get("audio"), stats.get("video"))
    return sum(int(stream.get(figure, 0)) for stream in streams if stream)


class OrchestratorCollector(Collector):
    """Counts events as they pass and asks the rest at scrape time."""

    def __init__(
        self,
        calls: CallRegistry,
        pool: WorkerPool,
        bus: EventBus | None = None,
        supervisor: Supervisor | None = None,
        talking_face: Callable[[], bool] | None = None,
    ) -> None:
        self.webhook: Webhook | None = None
        self.archive: Archive | None = None
        self.recordings: Recordings | None = None
        self._talking_face = talking_face
        self._calls = calls
        self._pool = pool
        self._bus = bus or EventBus()
        self._supervisor = supervisor or Supervisor()
        self._keys_dropped = 0
        self._events: Counter[tuple[str, str]] = Counter()
        self._lips: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._replies: Counter[str] = Counter()
        self._wait_ms: list[float] = []
        self._steps_ms: dict[str, list[float]] = {}
        self.conversations: Callable[[], tuple[int, bool]] | None = None
        """How many callers are talked with, and whether what they say is understood now."""
        self.processes: Callable[[], list[ProcessState]] = list
        self.services: Callable[[], list[ServiceState]] = list
        """Processes beside media workers, and services of others."""
        self._caller_turns = 0
        self._without_slot: set[str] = set()
        """Calls whose turn under way found no speaking slot anywhere."""

    def count(self, event: CallEvent) -> None:
        """Take one event of the bus."""
        label = str(event.data.get("cause", "")) if event.kind == "ended" else ""
        label = str(event.data.get("state", "")) if event.kind == "avatar" else label
        if event.kind == "ended" and ("ended", label) not in self._events:
            known = sum(kind == "ended" for kind, _ in self._events)
            label = label if known < OUTCOMES else "other"
        self._events[event.kind, label] += 1
        self._keys_dropped += int(event.data.get("dropped", 0))
        if event.kind == "avatar" and label == "rejected":
            self._without_slot.add(event.call_id)
        elif event.kind in ("turn_finished", "turn_interrupted", "ended"):
            self._without_slot.discard(event.call_id)
        if event.kind == "turn_started":
            self._wait_ms = [*self._wait_ms, float(event.data["wait_ms"])][-200:]
        if event.kind == "latency":
            for step in (*_STEPS, _TOTAL):
                took = float(event.data.get(f"{step}_ms", 0.0))
                self._steps_ms[step] = [*self._steps_ms.get(step, ()), took][-200:]
        if event.kind == "transcript":
            self._caller_turns += bool(event.data["final"])
        if event.kind == "reply":
            self._replies["whole" if event.data["whole"] else "cut"] += 1
        if event.kind == "ended" and (call := self._calls.call(event.call_id)) is not None:
            for figure in _LIPS:
                self._lips[figure] += int(call.stats.get(figure, 0))
            for figure in _STREAMS:
                self._streams[figure] += _of_streams(call.stats, figure)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        yield GaugeMetricFamily("visavis_calls_active", "Calls under way", self._calls.active)
        yield CounterMetricFamily("visavis_calls_refused", "Calls answered 503", self._calls.refused)
        yield GaugeMetricFamily(
            "visavis_turns_without_slot",
            "Turns under way that found no speaking slot anywhere",
            len(self._without_slot),
        )
        if self._talking_face is not None:
            yield GaugeMetricFamily(
                "visavis_talking_face",
                "Whether calls get a face whose lips move: the default avatar is ready, a server can be used",
                int(self._talking_face()),
            )
        ended = CounterMetricFamily("visavis_calls", "Calls by how they ended", labels=["outcome"])
        avatar = CounterMetricFamily("visavis_avatar_streams", "Avatar stream changes", labels=["state"])
        for (kind, label), value in self._events.items():
            if kind == "ended":
                ended.add_metric([label], value)
            elif kind == "avatar":
                avatar.add_metric([label], value)
        yield ended
        yield avatar
        for kind in ("turn_started", "turn_finished", "turn_interrupted", "dtmf"):
            total = sum(value for (name, _), value in self._events.items() if name == kind)
            yield CounterMetricFamily(f"visavis_{kind}", f"Events of kind {kind}", total)
        yield CounterMetricFamily(
            "visavis_dtmf_dropped", "Keys of callers beyond 20 a second", self._keys_dropped
        )
        for figure, (name, text, scale) in _LIPS.items():
            yield CounterMetricFamily(name, f"Of ended calls: {text}", self._lips[figure] * scale)
        under_way = [call.stats for call in self._calls.calls if call.ended_at is None]
        for figure, (name, text) in _STREAMS.items():
            total = self._streams[figure] + sum(_of_streams(stats, figure) for stats in under_way)
            yield CounterMetricFamily(name, f"Media: {text}", total)
        if self._wait_ms:
            waits = sorted(self._wait_ms)
            p95 = waits[int(0.95 * (len(waits) - 1))] / 1000
            yield GaugeMetricFamily(
                "visavis_turn_start_wait_seconds", "First audio to start of turn, p95", p95
            )
        yield from self._talk()
        yield from self._parts()
        yield from self._workers()
        yield from self._delivery()

    def _talk(self) -> Iterable[Metric]:
        replies = CounterMetricFamily(
            "visavis_replies", "Replies that callers heard, whole or cut", labels=["outcome"]
        )
        for outcome in ("whole", "cut"):
            replies.add_metric([outcome], self._replies[outcome])
        yield replies
        if self.conversations is not None:
            active, hears = self.conversations()
            yield GaugeMetricFamily("visavis_conversations", "Callers that are talked with", active)
            yield GaugeMetricFamily("visavis_listening", "Whether callers are understood now", int(hears))
        started = self._events["speech_started", ""]
        yield CounterMetricFamily("visavis_speech_started", "Times that a caller began to speak", started)
        yield CounterMetricFamily(
            "visavis_caller_turns", "Turns of callers that got a reply", self._caller_turns
        )
        if self._steps_ms:
            yield from self._latency()

    def _latency(self) -> Iterable[Metric]:
        text = "From a caller's last word to the first sound of the answer, last 200"
        total = GaugeMetricFamily("visavis_answer_seconds", text, labels=["quantile"])
        steps = GaugeMetricFamily(
            "visavis_answer_step_seconds", f"{text}: each step", labels=["step", "quantile"]
        )
        for step, values in self._steps_ms.items():
            ordered = sorted(values)
            for quantile in (0.5, 0.95):
                at = ordered[int(quantile * (len(ordered) - 1))] / 1000
                if step == _TOTAL:
                    total.add_metric([str(quantile)], at)
                else:
                    steps.add_metric([step, str(quantile)], at)
        yield total
        yield steps

    def _parts(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "visavis_process_ready", "Whether a process of ours is there", labels=["process"]
        )
        restarts = CounterMetricFamily(
            "visavis_process_restarts", "Times that a process of ours was started again", labels=["process"]
        )
        for process in self.processes():
            if process.state != "off":
                up.add_metric([process.name], int(process.state == "ready"))
                restarts.add_metric([process.name], process.restarts)
        labels = ["part", "service"]
        rests = GaugeMetricFamily(
            "visavis_service_rests", "Whether a service of others has failed and is left alone", labels=labels
        )
        faults = CounterMetricFamily("visavis_service_faults", "Faults of services of others", labels=labels)
        for service in self.services():
            rests.add_metric([service.part, service.name], int(service.state == "rests"))
            faults.add_metric([service.part, service.name], service.faults)
        yield from (up, restarts, rests, faults)

    def _delivery(self) -> Iterable[Metric]:
        lost = CounterMetricFamily(
            "visavis_events_lost", "Events a listener did not get", labels=["listener"]
        )
        for listener in sorted({"webhook", "stream", "metrics", *self._bus.lost}):
            lost.add_metric([listener], self._bus.lost[listener])
        yield lost
        if self.webhook is not None:
            posts = CounterMetricFamily("visavis_webhook_posts", "Attempts by outcome", labels=["outcome"])
            for outcome in ("taken", "refused"):
                posts.add_metric([outcome], self.webhook.posts[outcome])
            yield posts
            yield GaugeMetricFamily(
                "visavis_webhook_waiting", "Events the webhook has not taken yet", self.webhook.waiting
            )
        if self.archive is not None:
            status = self.archive.status
            up = int(status.state == "ready")
            yield GaugeMetricFamily("visavis_database_up", "Whether the database takes records", up)
            yield GaugeMetricFamily(
                "visavis_archive_waiting", "Records and lines of transcripts to be written", status.waiting
            )
            yield CounterMetricFamily("visavis_archive_lost", "Such as will never be written", status.lost)
        if self.recordings is not None:
            active, failed = self.recordings.active, self.recordings.failures
            yield GaugeMetricFamily("visavis_recordings", "Calls that are recorded now", active)
            yield CounterMetricFamily("visavis_recordings_failed", "Recordings that ended by a fault", failed)
            seconds, octets = self.recordings.seconds, self.recordings.octets
            yield CounterMetricFamily("visavis_recorded_seconds", "Recordings, in seconds of calls", seconds)
            yield CounterMetricFamily("visavis_recorded_bytes", "Recordings, in bytes of files", octets)
            waiting = self.recordings.kept.waiting
            yield GaugeMetricFamily(
                "visavis_recordings_waiting", "Files of recordings that wait for their store", waiting
            )
        failures = CounterMetricFamily(
            "visavis_task_failures", "Background tasks that ended unexpectedly", labels=["task"]
        )
        for failure in self._supervisor.failures:
            failures.add_metric([failure.task], failure.count)
        yield failures

    def _workers(self) -> Iterable[Metric]:
        fields = {
            "calls": ("visavis_media_calls", "Calls of this media worker"),
            "ports": ("visavis_media_ports", "UDP ports in use"),
            "overloaded": ("visavis_media_overloaded", "Whether new calls are refused"),
            "encoders": ("visavis_media_encoder_load", "Share of the encoder threads' time in use"),
            "lateness_p99": (
                "visavis_media_lateness_p99_seconds",
                "Lateness of the media clock, last second",
            ),
            "lateness_max": ("visavis_media_lateness_max_seconds", "Worst lateness, last second"),
            "encode_ms": ("visavis_media_encode_milliseconds", "CPU time of an encoded picture, mean"),
        }
        yield GaugeMetricFamily("visavis_media_workers", "Media workers that are up", len(self._pool.workers))
        for field, (name, text) in fields.items():
            gauge = GaugeMetricFamily(name, text, labels=["worker"])
            for index, worker in enumerate(self._pool.workers):
                if worker.health is not None:
                    gauge.add_metric([str(index)], float(getattr(worker.health, field)))
            yield gauge


def make_registry(collector: OrchestratorCollector) -> CollectorRegistry:
    """A registry with these figures only."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
