"""A process for the tests of ``visavis.service.child``: ``python -m tests.support.child --channel FD``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass

from visavis.service.child import parent_socket
from visavis.service.ipc import Codec


@dataclass(frozen=True, slots=True)
class Hello:
    pid: int


@dataclass(frozen=True, slots=True)
class Do:
    """``echo``, ``exit N``, ``hang`` (answer nothing), ``shut`` (close the channel and live on), ``burst N``."""

    what: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Said:
    what: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Stop:
    pass


Message = Hello | Do | Said | Stop
codec = Codec[Message](Hello, Do, Said, Stop)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--grace", type=float, default=0.0)
    parser.add_argument("--mute", action="store_true", help="never say hello")
    options = parser.parse_args()
    channel = parent_socket(options.channel, grace_s=options.grace)
    decoder = codec.decoder()
    if not options.mute:
        channel.sendall(codec.encode(Hello(os.getpid())))
    while data := channel.recv(1 << 16):
        for message in decoder.feed(data):
            match message:
                case Stop():
                    return 0
                case Do("exit 3"):
                    return 3
                case Do("hang"):
                    while True:
                        time.sleep(60)
                case Do("shut"):
                    channel.close()
                    time.sleep(60)
                case Do("nonsense"):
                    channel.sendall(b"\0\0\0\2\0\0\0\0{}" + codec.encode(Said("after")))
                case Do("noise"):
                    channel.sendall(b"\xff" * 100)
                case Do("burst"):
                    channel.sendall(b"".join(codec.encode(Said(str(number))) for number in range(5)))
                case Do(what, payload):
                    channel.sendall(codec.encode(Said(what, payload)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
