"""SIPp scenarios written in Python: a scenario is a list of steps, run by the real sipp against a real stack."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing.ports import free_port
from tests.peers.peers import require

AUDIO_VIDEO = """v=0
o=sipp 1 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0 8 101
a=rtpmap:101 telephone-event/8000
a={direction}
m=video 6002 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:* nack pli
a={direction}
"""


def offer(direction: str = "sendrecv", version: int = 1) -> str:
    return AUDIO_VIDEO.format(direction=direction, version=version)


@dataclass
class Recv:
    """Wait for a response status or a request method; `check` are regular expressions it must match."""

    what: int | str
    check: tuple[str, ...] = ()
    optional: bool = False
    absent: tuple[str, ...] = ()
    extra: str = ""

    def xml(self, index: int) -> str:
        kind = f'response="{self.what}"' if isinstance(self.what, int) else f'request="{self.what}"'
        optional = ' optional="true"' if self.optional else ""
        record = ' rrs="true"' if self.what in (180, 183, 200) or isinstance(self.what, str) else ""
        auth = ' auth="true"' if self.what in (401, 407) else ""
        actions = self.extra
        for number, pattern in enumerate((*self.check, *self.absent)):
            wanted = 'check_it="true"' if number < len(self.check) else 'check_it_inverse="true"'
            name = f"v{index}x{number}"
            pattern = pattern.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
            actions += f'<ereg regexp="{pattern}" search_in="msg" {wanted} assign_to="{name}"/>'
            actions += f'<log message="[${name}]"/>'
        body = f"<action>{actions}</action>" if actions else ""
        return f"<recv {kind}{optional}{record}{auth}>{body}</recv>"


@dataclass
class Send:
    """One message; lines as SIPp's keywords write them. SIPp sends it again until answered if `again`."""

    text: str
    again: bool = False

    def xml(self, index: int) -> str:
        retrans = ' retrans="500"' if self.again else ""
        return f"<send{retrans}><![CDATA[\n{self.text.strip()}\n\n]]></send>"


@dataclass
class Pause:
    milliseconds: int

    def xml(self, index: int) -> str:
        return f'<pause milliseconds="{self.milliseconds}"/>'


Step = Recv | Send | Pause


def request(
    method: str,
    *,
    seq: int = 1,
    to_tag: bool = False,
    body: str = "",
    headers: str = "",
    branch: str = "[branch]",
    uri: str = "sip:[service]@[remote_ip]:[remote_port]",
    again: bool = False,
) -> Send:
    lines = [
        f"{method} {'[next_url]' if to_tag else uri} SIP/2.0",
        f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch};rport",
        "Max-Forwards: 70",
        *(["[routes]"] if to_tag else []),
        "From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]",
        "To: <sip:[service]@[remote_ip]:[remote_port]>" + ("[peer_tag_param]" if to_tag else ""),
        "Call-ID: [call_id]",
        f"CSeq: {seq} {method}",
        "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>",
        *headers.strip().split("\n"),
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]",
    ]
    return Send("\n".join(line for line in lines if line) + "\n\n" + body, again)


def reply(
    status: str, *, headers: str = "", body: str = "", tag: str = "[call_number]", again: bool = False
) -> Send:
    lines = [
        f"SIP/2.0 {status}",
        "[last_Via:]",
        "[last_From:]",
        f"[last_To:];tag={tag}" if tag else "[last_To:]",
        "[last_Call-ID:]",
        "[last_CSeq:]",
        "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>",
        *headers.strip().split("\n"),
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]",
    ]
    return Send("\n".join(line for line in lines if line) + "\n\n" + body, again)


def ack(seq: int = 1, body: str = "", branch: str = "[branch]") -> Send:
    return request("ACK", seq=seq, to_tag=True, body=body, branch=branch)


def bye(seq: int) -> list[Step]:
    return [request("BYE", seq=seq, to_tag=True, again=True), Recv(200)]


class Sipp:
    """Runs scenarios in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.binary = require("sipp", "sip-tester")
        self.folder = folder

    async def run(
        self,
        name: str,
        steps: list[Step],
        remote: tuple[str, int],
        *,
        user: str = "anna",
        calls: int = 1,
        options: tuple[str, ...] = (),
        port: int = 0,
        seconds: float = 30.0,
    ) -> None:
        """Fail the test with what SIPp says unless every call of the scenario succeeds."""
        await (
            await self.start(name, steps, remote, user=user, calls=calls, options=options, port=port)
        ).wait(seconds)

    async def start(
        self,
        name: str,
        steps: list[Step],
        remote: tuple[str, int],
        *,
        user: str = "anna",
        calls: int = 1,
        options: tuple[str, ...] = (),
        port: int = 0,
    ) -> RunningSipp:
        path = self.folder / f"{name}.xml"
        body = "\n".join(step.xml(index) for index, step in enumerate(steps))
        path.write_text(
            f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<scenario name="{name}">\n{body}\n</scenario>\n'
        )
        port = port or free_port()
        command = [
            self.binary, "-sf", str(path), "-s", user, f"{remote[0]}:{remote[1]}", "-i", "127.0.0.1",
            "-p", str(port), "-m", str(calls), "-nostdin", "-timeout", "25", "-timeout_error",
            "-trace_err", "-error_file", str(self.folder / f"{name}.err"),
            "-trace_logs", "-log_file", str(self.folder / f"{name}.log"), *options,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        return RunningSipp(name, process, self.folder / f"{name}.err", port)


@dataclass
class RunningSipp:
    name: str
    process: asyncio.subprocess.Process
    errors: Path
    port: int

    async def wait(self, seconds: float = 30.0) -> str:
        try:
            output, _ = await asyncio.wait_for(self.process.communicate(), seconds)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            pytest.fail(f"sipp {self.name} did not end in {seconds} s: {self._errors()}")
        if self.process.returncode != 0:
            pytest.fail(
                f"sipp {self.name} ended with {self.process.returncode}: {self._errors()}\n{output[-1500:]!r}"
            )
        return output.decode(errors="replace")

    def _errors(self) -> str:
        return self.errors.read_text(errors="replace")[-3000:] if self.errors.exists() else ""
