"""``/metrics`` on the HTTP port, in a thread of its own, until the HTTP face takes the port over."""

from __future__ import annotations

from prometheus_client import start_http_server

from inference_server.metrics import Metrics


class MetricsServer:
    """Serves one registry."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, registry=metrics.registry)
        except OSError as error:
            raise OSError(f"HTTP cannot listen on {host}:{port} ({error.strerror})") from None
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)
