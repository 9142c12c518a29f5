"""``python -m inference_server``: start, serve, drain on SIGTERM, end; with 1 where the engine can never load."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load ends it without a trace

import asyncio
import gc
import os
import sys

from visavis.service.extras import missing_extra

try:
    import cv2

    from inference_server.core import Core
    from inference_server.engines.base import EngineError
    from inference_server.engines.discovery import engine_names
    from inference_server.frontends.access import make_guard
    from inference_server.frontends.grpc import GrpcFrontend
    from inference_server.frontends.http.listener import HttpListener
    from inference_server.settings import SOURCE, Settings, load
    from visavis.service.acceptor import raise_descriptor_limit
    from visavis.service.listening import exposure
    from visavis.service.logs import Log, configure_logging
    from visavis.service.security import TokenFileError, need_token_file
    from visavis.service.settings import SettingsError
    from visavis.service.unhandled import log_loop, log_threads
except ModuleNotFoundError as error:
    raise SystemExit(missing_extra(error, "the inference server", "inference")) from None


async def serve(settings: Settings, log: Log) -> int:
    """Run until a signal; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    log_threads()
    log_loop(loop)

    def on_signal() -> None:
        if stop.is_set():
            log.warning("stopped_at_once")
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    core = Core(settings, log)
    core.on_hopeless = stop.set
    guard = make_guard(settings)
    core.metrics.without_token.set_function(lambda: guard.without_token)
    face = GrpcFrontend(core, guard)
    http = HttpListener(core, guard) if settings.http else None
    for what, host in (("gRPC", settings.host), ("HTTP", settings.http_host))[: 2 if settings.http else 1]:
        told = exposure(what, host, SOURCE.prefix, insecure=settings.insecure, tls=bool(settings.tls))
        if told:
            log.warning("exposed", reason=told)
    try:
        port = await face.start(settings.host, settings.port)
        if http is not None:
            await http.start(settings.http_host, settings.http_port)
    except OSError as error:
        await face.close(0)
        raise SettingsError(
            f"{error}: another server may be running there; choose another VISAVIS_INFERENCE_PORT or "
            "VISAVIS_INFERENCE_HTTP_PORT."
        ) from None
    log.info("listening", grpc_host=settings.host, grpc_port=port, http_port=http.port if http else None)
    core.start()
    cv2.setNumThreads(1)  # a frame is too small to share, and the cores are the engine's
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked at again
    await stop.wait()
    if not core.hopeless:
        await core.drain()
    await core.close()
    await face.close()
    if http is not None:
        await http.close()
    log.info("stopped")
    if core.hopeless:
        print(f"The engine {settings.engine} cannot load: {core.hopeless}", file=sys.stderr)
    return 1 if core.hopeless else 0


def main(argv: list[str]) -> int:
    """Entry; 2 where a setting is wrong, 1 where the engine can never load."""
    try:
        settings = load(argv)
        if ":" not in settings.engine and settings.engine not in engine_names():
            known = ", ".join(engine_names()) or "none (run pip install -e .)"
            raise SettingsError(
                f"Setting engine (VISAVIS_INFERENCE_ENGINE) cannot be {settings.engine!r}: installed are {known}."
            )
        need_token_file(settings.token_file, "fleet")
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        configure_logging(settings.log_level)
        raise_descriptor_limit()
        return asyncio.run(serve(settings, Log("inference_server")))
    except (SettingsError, EngineError) as error:
        print(error, file=sys.stderr)
        return 2
    except TokenFileError as error:
        print(f"Setting tokens: {error}.", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"Setting cache_dir: {settings.cache_dir} cannot be written ({error.strerror}).", file=sys.stderr
        )
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
