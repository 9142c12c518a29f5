"""The few rules of Kubernetes that decide what happens to calls when nodes go, without an API server.

Modelled as documented, from the rendered manifests: which pods ``kubectl drain`` evicts (none of a DaemonSet),
eviction within a PodDisruptionBudget (healthy pods that are not being deleted, less those that must stay), replicas
made for pods that are being deleted, and a scheduler that knows node labels, cordons, host ports and required
anti-affinity by hostname. Time goes in steps: a pod is ready a step after it has a node; an evicted one goes on
until :meth:`Cluster.finish`, since its calls do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(eq=False)
class Node:
    """One machine."""

    name: str
    labels: dict[str, str]
    cordoned: bool = False


@dataclass(eq=False)
class Pod:
    """One pod of the workload."""

    name: str
    node: Node | None = None
    ready: bool = False
    terminating: bool = False


@dataclass
class Cluster:
    """Nodes, one workload, its budget."""

    workload: Object
    budget: Object
    nodes: list[Node]
    pods: list[Pod] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def _spec(self) -> Object:
        return dict(self.workload["spec"]["template"]["spec"])

    @property
    def expected(self) -> int:
        """Replicas that the controller wants."""
        if self.workload["kind"] == "DaemonSet":
            return sum(self._suits(node) for node in self.nodes)
        return int(self.workload["spec"]["replicas"])

    @property
    def healthy(self) -> int:
        """Ready pods that are not being deleted: what a budget counts."""
        return sum(pod.ready and not pod.terminating for pod in self.pods)

    @property
    def disruptions_allowed(self) -> int:
        """``status.disruptionsAllowed`` of the budget."""
        return max(0, self.healthy - (self.expected - int(self.budget["spec"]["maxUnavailable"])))

    def step(self) -> None:
        """The controller, the scheduler and the kubelets, once each."""
        missing = self.expected - sum(not pod.terminating for pod in self.pods)
        self.pods += [Pod(f"pod-{next(self._numbers)}") for _ in range(missing)]
        for pod in self.pods:
            if pod.node is not None:
                pod.ready = pod.ready or not pod.terminating
            else:
                pod.node = next((n for n in self.nodes if self._suits(n) and self._room(n)), None)

    def settle(self) -> None:
        """Until nothing more happens by itself."""
        for _ in range(2 * len(self.nodes) + 4):
            self.step()

    def drain(self, node: Node) -> list[Pod]:
        """``kubectl drain``: cordons, and evicts what it may; returns those. Call it until all have gone."""
        node.cordoned = True
        if self.workload["kind"] == "DaemonSet":
            return []  # --ignore-daemonsets leaves them alone
        evicted = []
        for pod in self.pods:
            if pod.node is node and not pod.terminating and self.disruptions_allowed > 0:
                pod.terminating = True
                evicted.append(pod)
        return evicted

    def finish(self, pod: Pod) -> None:
        """Its last call has ended, or its grace period."""
        self.pods.remove(pod)

    def lose(self, node: Node) -> None:
        """The node is gone, and every pod on it."""
        self.nodes.remove(node)
        self.pods = [pod for pod in self.pods if pod.node is not node]

    def _suits(self, node: Node) -> bool:
        return not node.cordoned and self._spec.get("nodeSelector", {}).items() <= node.labels.items()

    def _room(self, node: Node) -> bool:
        """Host ports and required anti-affinity by hostname: one pod, until it has gone for good."""
        spec = self._spec
        terms = spec.get("affinity", {}).get("podAntiAffinity", {})
        alone = bool(terms.get("requiredDuringSchedulingIgnoredDuringExecution"))
        ports = any("hostPort" in port for port in spec["containers"][0]["ports"])
        return not (alone or ports) or all(pod.node is not node for pod in self.pods)
