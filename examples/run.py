"""Both services on this machine until Ctrl-C: prints what to dial and where the API is. Run as ``make run``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import httpx

from orchestrator.config import load_settings


def own_address() -> str:
    """The address that the network sees this machine at; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def run() -> int:
    """Until one of the services ends or Ctrl-C; the exit status is the orchestrator's."""
    settings = load_settings([])
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env=os.environ, start_new_session=True
        )
        for module in ("inference_server", "orchestrator")
    ]
    ends = [asyncio.create_task(process.wait()) for process in processes]
    stopping = asyncio.create_task(stop.wait())
    said = asyncio.create_task(announce(settings.api_port, settings.sip_port))
    await asyncio.wait([*ends, stopping], return_when=asyncio.FIRST_COMPLETED)
    said.cancel()
    stopping.cancel()
    for process in reversed(processes):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    await asyncio.gather(*ends)
    return processes[1].returncode or 0


async def announce(api_port: int, sip_port: int) -> None:
    """Say what to dial once calls get a talking face."""
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                status = await client.get(f"http://127.0.0.1:{api_port}/v1/status")
                if status.status_code == 200 and status.json()["talking_face"]:
                    break
            await asyncio.sleep(0.2)
    host = own_address()
    port = "" if sip_port == 5060 else f":{sip_port}"
    print(f"\nReady. Call sip:demo@{host}{port} with a SIP video phone on this network.")
    print(f"API: http://127.0.0.1:{api_port}/docs    Ctrl-C stops both services.\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run()))
