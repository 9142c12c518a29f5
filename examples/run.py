"""Both services on this machine until Ctrl-C: prints what to dial and where the API is. Run as ``make run``."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load ends it without a trace

import asyncio
import errno
import os
import socket
import sys

import httpx

from examples.services import ENDS, Readiness, start, terminate
from inference_server.settings import load as load_inference_settings
from orchestrator.config import Settings, load_settings
from visavis.service.security import read_token
from visavis.service.settings import SettingsError


def own_address() -> str:
    """The address that the network sees this machine at; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def taken() -> list[str]:
    """A sentence for each port of the services that something else listens on."""
    own, inference = load_settings([]), load_inference_settings([])
    ports = [
        (own.api_host, own.api_port, "VISAVIS_API_PORT", socket.SOCK_STREAM),
        (own.sip_host, own.sip_port, "VISAVIS_SIP_PORT", socket.SOCK_DGRAM),
        (inference.host, inference.port, "VISAVIS_INFERENCE_PORT", socket.SOCK_STREAM),
    ]
    if inference.http:
        ports.append(
            (inference.http_host, inference.http_port, "VISAVIS_INFERENCE_HTTP_PORT", socket.SOCK_STREAM)
        )
    return [
        f"Port {port} is taken: end what listens there, or choose another one with {name}."
        for host, port, name, kind in ports
        if not free(host, port, kind)
    ]


def free(host: str, port: int, kind: socket.SocketKind) -> bool:
    """Whether a service could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # all else is the service's to say
    return True


async def run() -> int:
    """Until Ctrl-C or until one of the services ends by itself, which is an error; the exit status."""
    try:
        sentences = taken()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if sentences:
        print("\n".join([*sentences, "Do the services run already?"]), file=sys.stderr)
        return 1
    settings = load_settings([])
    stop = asyncio.Event()
    for number in ENDS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    environment = dict(os.environ)
    if "assistant" not in settings.model_fields_set:  # here somebody is to answer, with nothing else at hand
        environment["VISAVIS_ASSISTANT"] = "scripted"
    processes = [await start(module, environment) for module in ("inference_server", "orchestrator")]
    ends = [asyncio.create_task(process.wait()) for process in processes]
    stopping = asyncio.create_task(stop.wait())
    said = asyncio.create_task(announce(settings))
    await asyncio.wait([*ends, stopping], return_when=asyncio.FIRST_COMPLETED)
    said.cancel()
    stopping.cancel()
    for number in ENDS:  # once more ends what drains
        asyncio.get_running_loop().add_signal_handler(number, terminate, processes)
    terminate(processes)
    codes = await asyncio.gather(*ends)
    if stop.is_set():
        return max(
            0 if code == -signal.SIGTERM else abs(code) for code in codes
        )  # told before it could listen
    return max(1, *codes)


async def announce(settings: Settings) -> None:
    """Say what to dial and where the API is, once calls get a talking face; until then what is missing.

    The API's token is in the URL.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_host, settings.api_host)
    scheme = "https" if settings.api_tls else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.api_port}"
    token, told = "", list[str]()
    async with httpx.AsyncClient(base_url=url, verify=False) as api:  # our own child process on this machine
        readiness = Readiness(api)
        while missing := await readiness.missing():
            token = read_token(settings.api_token_file).reveal()
            api.headers = {"Authorization": f"Bearer {token}"} if token else {}
            if missing != told:
                print(f"Not ready yet: {'; '.join(missing)}.", flush=True)
                told = missing
            await asyncio.sleep(0.2)
    port = "" if settings.sip_port == 5060 else f":{settings.sip_port}"
    print(f"\nReady. Call in a browser: {url}/#token={token}")
    print(f"or dial sip:demo@{own_address()}{port} with a SIP video phone on this network.")
    print("It listens and answers, following a script: ask when they are open, or what it can do.")
    print(
        "Whoever has this URL may do everything here: keep it to yourself. Ctrl-C stops both services.\n",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run()))
