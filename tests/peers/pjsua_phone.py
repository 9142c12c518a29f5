"""pjsua (PJSIP, audio only) as a phone: run as a program, it tells what happens as JSON lines on stdout.

python pjsua_phone.py FOLDER PORT CODEC [URI to call; without one it answers]
On stdin: "press 5" sends a key, "hangup" ends the call.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import pjsua2 as pj

TONE_HZ = 440


def tell(event: str, **data: Any) -> None:
    print(json.dumps({"event": event, **data}), flush=True)


class PhoneCall(pj.Call):  # type: ignore[misc]
    """Plays a tone and records what it hears."""

    def __init__(self, account: pj.Account, folder: str, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(account, call_id)
        self._folder = folder
        self._media: list[Any] = []

    def onCallState(self, prm: Any) -> None:
        info = self.getInfo()
        tell("state", state=info.stateText, status=int(info.lastStatusCode))
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._media.clear()
            over.set()

    def onCallMediaState(self, prm: Any) -> None:
        audio = self.getAudioMedia(-1)
        if not self._media:
            generator, recorder = pj.ToneGenerator(), pj.AudioMediaRecorder()
            generator.createToneGenerator()
            tone = pj.ToneDesc()
            tone.freq1, tone.freq2, tone.on_msec, tone.off_msec = TONE_HZ, 0, 1000, 0
            tones = pj.ToneDescVector()
            tones.append(tone)
            generator.play(tones, True)
            generator.startTransmit(audio)
            recorder.createRecorder(f"{self._folder}/heard.wav")
            audio.startTransmit(recorder)
            self._media += [generator, recorder]
        stream = self.getStreamInfo(0)
        tell("media", codec=stream.codecName, rate=int(stream.codecClockRate))

    def onDtmfDigit(self, prm: Any) -> None:
        tell("digit", digit=prm.digit)

    def figures(self) -> None:
        """What its RTCP says: packets received and lost, and those the far end reports."""
        rtcp = self.getStreamStat(0).rtcp
        tell(
            "figures",
            received=int(rtcp.rxStat.pkt),
            lost=int(rtcp.rxStat.loss),
            sent=int(rtcp.txStat.pkt),
            peer_lost=int(rtcp.txStat.loss),
        )


class PhoneAccount(pj.Account):  # type: ignore[misc]
    """Answers every call."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder
        self.call: PhoneCall | None = None

    def onIncomingCall(self, prm: Any) -> None:
        self.call = PhoneCall(self, self._folder, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        self.call.answer(answer)


over = threading.Event()
commands: list[str] = []


def read_commands() -> None:
    commands.extend(line.strip() for line in sys.stdin)


def main(folder: str, port: int, codec: str, uri: str) -> None:
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 1
    config.uaConfig.threadCnt = 0  # everything in this thread
    config.uaConfig.mainThreadOnly = True
    endpoint.libInit(config)
    transport = pj.TransportConfig()
    transport.port, transport.boundAddress = port, "127.0.0.1"
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for known in endpoint.codecEnum2():
        endpoint.codecSetPriority(known.codecId, 255 if known.codecId.startswith(f"{codec}/") else 0)
    settings = pj.AccountConfig()
    settings.idUri = f"sip:pjsua@127.0.0.1:{port}"
    settings.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account = PhoneAccount(folder)
    account.create(settings)
    tell("ready")
    if uri:
        account.call = PhoneCall(account, folder)
        options = pj.CallOpParam(True)
        options.opt.audioCount, options.opt.videoCount = 1, 0
        account.call.makeCall(uri, options)
    threading.Thread(target=read_commands, daemon=True).start()
    while not over.is_set():
        endpoint.libHandleEvents(20)
        while commands:
            line = commands.pop(0)
            if account.call is None:
                continue
            if line == "hangup":
                account.call.figures()
                account.call.hangup(pj.CallOpParam())
            elif line.startswith("press "):
                account.call.dialDtmf(line.removeprefix("press "))
    account.call = None
    endpoint.libDestroy()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], "".join(sys.argv[4:]))
