"""What the rules of Kubernetes make of the rendered manifests when nodes are drained, lost or too few."""

from __future__ import annotations

import copy

import pytest

from tests.support.cluster import Cluster, Node
from tests.support.manifests import find, render, workloads

pytestmark = [pytest.mark.process, pytest.mark.peer]

CALLS = {"visavis.dev/calls": "true"}


def cluster(nodes: int, kind: str = "Deployment") -> Cluster:
    """The orchestrators of the ``cpu`` overlay on so many nodes for calls, and one node that is not."""
    objects = render("cpu")
    workload = copy.deepcopy(workloads(objects)["orchestrator"])
    assert workload["kind"] == "Deployment"
    workload["kind"] = kind
    budget = find(objects, "PodDisruptionBudget", "orchestrator")
    made = Cluster(workload, budget, [Node("other", {}), *(Node(f"calls-{n}", CALLS) for n in range(nodes))])
    made.settle()
    return made


def test_one_on_a_node_and_only_where_callers_reach_it() -> None:
    made = cluster(3)
    assert made.healthy == made.expected == 2
    nodes = [pod.node for pod in made.pods]
    assert len(set(nodes)) == 2 and all(node is not None and node.labels == CALLS for node in nodes)


def test_a_drain_with_a_node_to_spare_is_replaced_at_once_and_its_calls_go_on() -> None:
    made = cluster(3)
    node = made.pods[0].node
    assert node is not None
    (leaving,) = made.drain(node)
    made.settle()
    assert leaving in made.pods  # its calls go on
    assert made.healthy == 2  # and new ones have two to go to, long before it has gone
    assert made.drain(node) == []
    made.finish(leaving)
    made.settle()
    assert made.healthy == 2 and all(pod.node is not node for pod in made.pods)


def test_two_drains_at_once_never_leave_less_than_all_but_one() -> None:
    made = cluster(3)
    first, second = (pod.node for pod in list(made.pods))
    assert first is not None and second is not None
    assert len(made.drain(first)) == 1
    assert made.drain(second) == [] and made.healthy == 1  # refused: kubectl tries again
    made.settle()
    assert made.healthy == 2
    assert len(made.drain(second)) == 1 and made.healthy == 1


def test_without_a_node_to_spare_the_next_drain_waits_for_the_first_node() -> None:
    made = cluster(2)
    first, second = (pod.node for pod in list(made.pods))
    assert first is not None and second is not None
    (leaving,) = made.drain(first)
    made.settle()
    assert made.healthy == 1 and made.drain(second) == []
    made.finish(leaving)
    first.cordoned = second.cordoned = False  # kubectl uncordon
    made.settle()
    assert made.healthy == 2 and len(made.drain(second)) == 1


def test_a_lost_node_is_replaced_on_the_spare_one() -> None:
    made = cluster(3)
    node = made.pods[0].node
    assert node is not None
    made.lose(node)
    assert made.healthy == 1 and made.disruptions_allowed == 0
    made.settle()
    assert made.healthy == 2 and made.disruptions_allowed == 1


def test_a_daemonset_would_never_be_evicted() -> None:
    made = cluster(3, "DaemonSet")
    assert made.healthy == 3
    node = made.pods[0].node
    assert node is not None and made.drain(node) == []
    assert [pod.terminating for pod in made.pods] == [False] * 3
