"""Alerts as Prometheus' own `promtool` judges them, with series as the services export them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peers.peers import require
from tests.support.series import exported, labels

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
HOST = DEPLOY / "monitoring"
FLEET = DEPLOY / "kubernetes" / "components" / "monitoring"
TARGET = {"job", "instance"}
"""Labels that Prometheus itself gives to what it scrapes."""
SERIES = re.compile(r"(\w+)\{([^}]*)\}")


def groups(source: Path) -> list[dict[str, Any]]:
    """Of a rule file, or of a PrometheusRule."""
    read = yaml.safe_load(source.read_text())
    found: list[dict[str, Any]] = read.get("spec", read)["groups"]
    return found


def fleet_groups() -> list[dict[str, Any]]:
    """Those of the PrometheusRule that one machine does not have."""
    return groups(FLEET / "alerts.yaml")[len(groups(HOST / "alerts.yml")) :]


def units(folder: Path) -> list[dict[str, Any]]:
    """What ``alerts.test.yml`` tests."""
    read: list[dict[str, Any]] = yaml.safe_load((folder / "alerts.test.yml").read_text())["tests"]
    return read


def promtool(*arguments: str) -> None:
    """Raises ``AssertionError`` with what it prints."""
    done = subprocess.run(
        [require("promtool", "prometheus"), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
@pytest.mark.peer("promtool")
def test_alerts_of_one_machine_fire_when_they_should(tmp_path: Path) -> None:
    for name in ("alerts.yml", "alerts.test.yml"):
        shutil.copy(HOST / name, tmp_path)
    promtool("check", "rules", str(tmp_path / "alerts.yml"))
    promtool("test", "rules", str(tmp_path / "alerts.test.yml"))


@pytest.mark.process
@pytest.mark.peer("promtool")
def test_alerts_of_a_fleet_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "fleet.yml").write_text(yaml.safe_dump({"groups": fleet_groups()}))
    shutil.copy(FLEET / "alerts.test.yml", tmp_path)
    promtool("check", "rules", str(tmp_path / "fleet.yml"))
    promtool("test", "rules", str(tmp_path / "alerts.test.yml"))


@pytest.mark.process
@pytest.mark.peer("promtool")
@pytest.mark.parametrize("file", ["prometheus.yml", "prometheus.bridge.yml"])
def test_prometheus_takes_its_configuration(file: str, tmp_path: Path) -> None:
    text = (HOST / file).read_text().replace("/etc/prometheus/alerts.yml", str(HOST / "alerts.yml"))
    (tmp_path / file).write_text(text)
    promtool("check", "config", str(tmp_path / file))


@pytest.mark.process
@pytest.mark.peer("promtool")
def test_queries_of_the_dashboard_can_be_asked(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, (expr, _) in enumerate(queries())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


@pytest.mark.parametrize(("folder", "rules"), [(HOST, groups(HOST / "alerts.yml")), (FLEET, fleet_groups())])
def test_every_alert_is_seen_fired_and_silent(folder: Path, rules: list[dict[str, Any]]) -> None:
    asked = [case for unit in units(folder) for case in unit["alert_rule_test"]]
    fired = {case["alertname"] for case in asked if case.get("exp_alerts")}
    silent = {case["alertname"] for case in asked if not case.get("exp_alerts")}
    named = {rule["alert"] for group in rules for rule in group["rules"]}
    assert named
    assert fired == silent == named


@pytest.mark.parametrize("folder", [HOST, FLEET])
def test_alerts_are_tested_with_series_as_they_are_exported(folder: Path) -> None:
    known, given = labels(), [s["series"] for unit in units(folder) for s in unit["input_series"]]
    ours = [found for text in given if (found := SERIES.fullmatch(text)) and text.startswith("visavis_")]
    assert len(ours) >= 10
    for name, pairs in (found.groups() for found in ours):
        named = set(re.findall(r"(\w+)=", pairs))
        assert named - TARGET == known[name], name


def queries() -> list[tuple[str, str]]:
    """Expression and legend of every line in the dashboard."""
    board = json.loads((HOST / "grafana/dashboards/visavis.json").read_text())
    return [(t["expr"], t.get("legendFormat", "")) for p in board["panels"] for t in p.get("targets", [])]


def test_the_dashboard_groups_by_labels_that_there_are() -> None:
    known = labels()
    for expression, legend in queries():
        names = set(re.findall(r"visavis_\w+", expression))
        own = set.intersection(*(known[name] for name in names))
        there = own | TARGET
        kept = re.search(r"by \(([^)]*)\)", expression)
        if kept:
            assert set(kept[1].split(", ")) <= there, expression
            there = set(kept[1].split(", "))
        elif "sum(" in expression:
            there = set()
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= there, (expression, legend)
        assert set(re.findall(r"(\w+)=", expression)) <= own, expression


def test_labels_are_told_of_every_series() -> None:
    assert labels().keys() == exported()
