"""nginx before the API, with the server block that docs/browser.md shows."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from testing.ports import free_port
from tests.peers.peers import require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "browser.md"


def documented() -> str:
    """What the page has people write into nginx's configuration."""
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)


@contextlib.asynccontextmanager
async def nginx(folder: Path, api_port: int, certificate: str, key: str) -> AsyncIterator[int]:
    """Its port of https on the loopback."""
    port = free_port()
    block = documented()
    for told, ours in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/calls.example.com.pem", certificate),
        ("/etc/ssl/calls.example.com.key", key),
        ("calls.example.com", "calls.test"),
        ("127.0.0.1:8080", f"127.0.0.1:{api_port}"),
    ):
        assert told in block
        block = block.replace(told, ours)
    places = "".join(
        f"{name}_temp_path {folder}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{ access_log off; {places}\n{block} }}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(
            require("nginx", "nginx-light"),
            "-e",
            str(folder / "nginx.log"),
            "-p",
            str(folder),
            "-c",
            str(file),
        ),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not _listens(port):
                assert process.returncode is None, (folder / "nginx.log").read_text()
                await asyncio.sleep(0.05)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
