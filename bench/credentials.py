"""What asking for credentials costs: CPU of a check, of a request through the gate, and of a gRPC call.

``python -m bench.credentials``: medians of eleven runs. A message of an open stream is not asked again, so its cost
is that of its call divided by the messages of the call.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc

from inference_server.frontends.access import AccessInterceptor
from orchestrator.api.app import create_app
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1 import avatar_pb2_grpc
from visavis.service.gate import Gate
from visavis.service.routes import rules_of
from visavis.service.security import API_SCOPES, FLEET_SCOPES, Guard, Tokens, make_token_file, read_token

RUNS = 11


class Servicer:
    """Answers one method at once; the others are never asked."""

    def __getattr__(self, name: str) -> Any:
        return None

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:
        return pb.Capabilities()


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers at once."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def cpu_us(act: Callable[[], Awaitable[object]], times: int) -> float:
    """Microseconds of CPU of one, the median of all runs."""
    each = []
    for _ in range(RUNS):
        before = time.process_time()
        for _ in range(times):
            await act()
        each.append((time.process_time() - before) / times * 1e6)
    return statistics.median(each)


def request(token: str) -> Callable[[Any], Awaitable[None]]:
    """One request of the API, straight into an ASGI application."""
    headers = [(b"host", b"127.0.0.1:8080"), (b"authorization", f"Bearer {token}".encode())]
    path = "/v1/calls/0123456789abcdef/say"

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        pass

    async def ask(app: Any) -> None:
        await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)

    return ask


async def over_grpc(guard: Guard | None, token: str, times: int) -> float:
    """Microseconds of CPU of one call, both ends."""
    server = grpc.aio.server(interceptors=[AccessInterceptor(guard)] if guard else None)
    avatar_pb2_grpc.add_AvatarServiceServicer_to_server(cast(Any, Servicer()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = avatar_pb2_grpc.AvatarServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),) if guard else ()
        cost = await cpu_us(
            lambda: stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=metadata), times
        )
    await server.stop(0)
    return cost


async def run(times: int, tokens: int) -> None:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="visavis-bench-") as folder:
        path = Path(folder) / "tokens"
        make_token_file(path, "first")
        with path.open("a") as file:
            file.writelines(f"visavis_another-token-number-{n} * n{n}\n" for n in range(tokens - 1))
        token = read_token(path).reveal()
        guard = Guard(Tokens(path, API_SCOPES), API_SCOPES, "")

        async def check() -> None:
            guard.check(f"Bearer {token}", "calls:speak")

        print(f"a check, {tokens} tokens in the file: {await cpu_us(check, times):.1f} us")
        rules = rules_of(create_app(cast(Any, None), "0", guard))
        ask, gate = request(token), Gate(behind, guard, rules)
        bare, through = await cpu_us(lambda: ask(behind), times), await cpu_us(lambda: ask(gate), times)
        print(f"a request through the gate ({len(rules)} routes): {through - bare:.1f} us")
        fleet = Guard(Tokens(path, FLEET_SCOPES), FLEET_SCOPES, "")
        without = await over_grpc(None, token, times // 20)
        asked = await over_grpc(fleet, token, times // 20)
        print(f"a gRPC call: {without:.0f} us, with the interceptor {asked:.0f} us, both ends")
        print(
            f"a message of a stream of a minute's speech (3000 of 20 ms): {(asked - without) / 3000:.3f} us"
        )


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=4)
    options = parser.parse_args()
    asyncio.run(run(options.times, options.tokens))


if __name__ == "__main__":
    main()
