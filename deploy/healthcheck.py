"""Health check of a container: ``healthcheck.py orchestrator`` asks /healthz, ``healthcheck.py inference`` gRPC.

Healthy is a process that lives and whose loops turn: an engine that still loads its weights is healthy, and so is
an orchestrator that has no face to show yet. ``GET /v1/status`` of the orchestrator tells those.

Reads the service's own settings, so a port that was moved needs no word here. Exit status 0 when healthy;
otherwise 1 and one line that says why, which the engine shows in ``docker inspect``. A healthy service whose
``/healthz`` needs no TLS has its address, ``HOST PORT``, written into a file that is named as second argument:
``healthcheck.sh`` asks there at no cost.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import sys
from pathlib import Path

TIMEOUT_S = 3.0
Plain = tuple[str, int] | None
"""Where ``/healthz`` is answered without TLS."""


def reachable(host: str) -> str:
    """The address at which this container reaches a listener on ``host``."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def connection_to(host: str, port: int, tls: bool) -> http.client.HTTPConnection:
    """To this container's own listener, whatever name its certificate has."""
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def orchestrator() -> tuple[str, Plain]:
    """What ``/healthz`` says is wrong, "" when nothing is; and where that is."""
    from orchestrator.config import load_settings

    settings = load_settings([])
    host, port, tls = settings.api_host, settings.api_port, bool(settings.api_tls)
    if settings.probe_port:
        host, port, tls = settings.probe_host, settings.probe_port, False
    plain = None if tls else (reachable(host), port)
    connection = connection_to(reachable(host), port, tls)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 200:
        return "", plain
    return f"not healthy: {json.loads(body).get('status', answer.status)}", plain


def inference() -> tuple[str, Plain]:
    """What ``grpc.health.v1`` says of the process, whatever its engine does, or over TLS ``/healthz``, "" when it
    lives; and where ``/healthz`` is plain."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from inference_server.frontends.health import LIVE
    from inference_server.settings import load

    settings = load([])
    if settings.tls:
        connection = connection_to(reachable(settings.http_host), settings.http_port, tls=True)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
        return "" if status == 200 else f"not healthy: HTTP {status}", None
    with grpc.insecure_channel(f"{reachable(settings.host)}:{settings.port}") as channel:
        request = health_pb2.HealthCheckRequest(service=LIVE)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    serving = health_pb2.HealthCheckResponse.SERVING
    plain = (reachable(settings.http_host), settings.http_port) if settings.http else None
    return "" if answer.status == serving else f"gRPC health is {answer.status}, not SERVING", plain


def main() -> int:
    """Exit status for the engine."""
    checks = {"orchestrator": orchestrator, "inference": inference}
    if sys.argv[1:2] == [] or sys.argv[1] not in checks:
        print(f"healthcheck.py takes one of: {', '.join(checks)}", file=sys.stderr)
        return 2
    try:
        problem, plain = checks[sys.argv[1]]()
    except Exception as error:  # whatever it is, the answer is "not healthy", in one line
        problem = f"no answer: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        plain = None
    if plain and plain[1] and not problem and sys.argv[2:]:
        with contextlib.suppress(OSError):
            Path(sys.argv[2]).write_text(f"{plain[0]} {plain[1]}\n")
    if problem:
        print(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
