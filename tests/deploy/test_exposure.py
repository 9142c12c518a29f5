"""Nobody is served without credentials, and by default nobody on other machines is served at all but by SIP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inference_server.settings import Settings as InferenceSettings
from orchestrator.config import Settings
from testing.ports import free_port
from tests.support.servers import ROOT, running_server


def test_what_listens_beyond_this_machine_by_default() -> None:
    own, inference = Settings(), InferenceSettings()
    assert (own.api_host, own.probe_host, inference.host, inference.http_host) == ("127.0.0.1",) * 4
    assert not own.api_insecure and not inference.insecure
    assert own.sip_host == "0.0.0.0" and own.allow_from == []


@pytest.mark.process
@pytest.mark.parametrize("service", ["inference_server", "orchestrator"])
def test_no_service_starts_without_credentials(tmp_path: Path, service: str) -> None:
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "tokens")
    settings = {
        "VISAVIS_API_TOKENS": nowhere,
        "VISAVIS_API_PORT": str(free_port()),
        "VISAVIS_SIP_PORT": str(free_port()),
        "VISAVIS_SIP_HOST": "127.0.0.1",
        "VISAVIS_DATA_DIR": str(tmp_path),
        "VISAVIS_CACHE_DIR": str(tmp_path),
        "VISAVIS_INFERENCE_TOKENS": nowhere,
        "VISAVIS_INFERENCE_PORT": "0",
        "VISAVIS_INFERENCE_HTTP_PORT": "0",
        "VISAVIS_INFERENCE_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", service],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    last = done.stderr.strip().splitlines()[-1]
    assert "nobody is served without credentials: choose another file" in last and nowhere in last


@pytest.mark.process
async def test_an_open_port_is_one_sentence_in_the_log() -> None:
    async with running_server(host="0.0.0.0", http_host="127.0.0.1") as server:
        told = await server.event("exposed")
        assert told["reason"].startswith("gRPC listens on 0.0.0.0 without TLS")
        assert "VISAVIS_INFERENCE_TLS_CERTIFICATE" in told["reason"]
        assert sum(entry["event"] == "exposed" for entry in server.log) == 1
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
