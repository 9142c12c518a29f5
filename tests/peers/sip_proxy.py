"""Kamailio in the path: a proxy that records its route, over UDP or TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from testing.ports import free_port
from tests.peers.peers import require

_CONFIGURATION = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
{listen}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
{modules}
modparam("rr","enable_full_lr",1)
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483","Too Many Hops"); exit; }}
  {media}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404","Not here"); exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  if (is_method("INVITE")) record_route();
  if ($rU == "anna") $du = "sip:127.0.0.1:{stack};transport={transport}";
  t_relay();
}}
"""
_RELAY = """loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:{control}")
onreply_route[media] {{
  if (has_body("application/sdp")) rtpengine_manage("replace-origin replace-session-connection");
}}
"""
_RELAYED = """if (is_method("INVITE") && is_present_hf("X-Other-Relay")) rtpengine_delete();
  if (is_method("INVITE") || is_method("BYE")) {
    rtpengine_manage("replace-origin replace-session-connection");
    t_on_reply("media");
  }"""
_TLS = """loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{server}")
modparam("tls", "private_key", "{server_key}")
modparam("tls", "ca_list", "{ca}")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 0)
"""


@asynccontextmanager
async def kamailio(
    folder: Path,
    stack_port: int,
    certificates: Mapping[str, str] | None = None,
    *,
    relay: int | None = None,
) -> AsyncIterator[int]:
    """The proxy's port; calls to ``anna`` go to ``stack_port``. With certificates all is TLS.

    ``relay`` is the control port of an rtpengine that media go through; a request with the header X-Other-Relay
    gets new ports of it.
    """
    binary = require("kamailio", "kamailio")
    port = free_port()
    transport = "tls" if certificates else "udp"
    listen = f"listen={transport}:127.0.0.1:{port}"
    listen += (
        "\nenable_tls=yes\ntcp_children=2\ntcp_connect_timeout=5" if certificates else "\ndisable_tcp=yes"
    )
    modules = _TLS.format(**certificates) if certificates else ""
    modules += _RELAY.format(control=relay) if relay else ""
    media = _RELAYED if relay else ""
    text = _CONFIGURATION.format(
        listen=listen, modules=modules, media=media, stack=stack_port, transport=transport
    )
    (folder / "k.cfg").write_text(text)
    with (folder / "k.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary, "-f", str(folder / "k.cfg"), "-DD", "-P", str(folder / "k.pid"), "-Y", str(folder),
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await asyncio.sleep(1.0)
        if certificates:
            await _listening(port, process)
        assert process.returncode is None, (folder / "k.log").read_text()[-2000:]
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.returncode is not None:
                return
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
