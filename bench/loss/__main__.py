"""Calls over a lossy path, measured at the phone: ``python -m bench.loss [--seconds 24] [--rtt-ms 50] [--trace]``

Every picture that the phone shows is compared with the same picture as it was sent: one counts as shown when it
is right and comes no later than 200 ms after it would have come without loss. The voice's beat at the sender is
compared with and without repetitions (``--beat``: only that). ``--receiver gstreamer`` lets GStreamer's rtpbin
receive instead, which sends NACK and PLI of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator

from bench.loss.call import LossyCall, lossy_call
from bench.loss.gstreamer import BUFFER_MS, gstreamer_call
from bench.loss.jitter import compare
from testing.caller import CallFailed, Phone
from tests.support.house import House, orchestrator, picture
from tests.support.servers import inference_server

WAYS = {1.0: "random", 3.0: "bursts of 3"}
LOSSES = (0.01, 0.03, 0.05, 0.10)


async def patiently(house: House, share: float, **options: float | bool) -> LossyCall:
    """The same, again while the orchestrator refuses calls for other work on the machine."""
    for _ in range(20):
        with contextlib.suppress(CallFailed):
            return await lossy_call(house, share, **options)  # type: ignore[arg-type]
        await asyncio.sleep(3.0)
    raise SystemExit("the orchestrator stays overloaded: measure on a machine with less to do")


KINDS: tuple[tuple[str, dict[str, bool], str], ...] = (
    ("NACK", {"nack": True}, "keyframes"),
    ("NACK with RTX", {"nack": True, "rtx": True}, "keyframes"),
    ("PLI only", {}, "keyframes"),
    ("asks for nothing", {"asks": False}, "keyframes"),
    ("asks for nothing, intra refresh", {"asks": False}, "intra"),
)
"""Phones: what they can do, and the refresh that the orchestrator is set to."""


async def houses(*refreshes: str) -> AsyncIterator[tuple[str, House]]:
    """Orchestrators, one after another, with the idle loop of the test card in their cache."""
    portrait = picture()
    async with inference_server() as server:
        for refresh in refreshes:
            async with orchestrator([server], portrait=portrait, video_refresh=refresh) as house:
                async with Phone(house.uri):
                    await house.idle_cached(await house.call_id())
                yield refresh, house


async def measure(arguments: argparse.Namespace) -> None:
    """No loss, then every loss with each kind of phone, then the voice's beat."""
    rtt = arguments.rtt_ms / 1000
    kinds = [kind for kind in KINDS if arguments.phone in kind[0]]
    async for refresh, house in houses(*dict.fromkeys(refresh for *_, refresh in kinds)):
        print(f"  0%: {await patiently(house, 0.0, seconds=arguments.seconds, rtt=rtt)}", flush=True)
        for burst, share, kind in itertools.product((1.0, 3.0), arguments.loss, kinds):
            name, options, wanted = kind
            if wanted != refresh:
                continue
            result = await patiently(
                house,
                share,
                seconds=arguments.seconds,
                rtt=rtt,
                burst=burst,
                seed=arguments.seed,
                **options,
            )
            print(f"{share:4.0%} {WAYS[burst]}, {name}: {result}", flush=True)
            causes = Counter(cause for cause, _ in result.stories)
            if causes:
                print("      " + ", ".join(f"{n} {cause}" for cause, n in causes.most_common()))
            if arguments.trace:
                print("".join(f"      {story}\n" for _, story in result.stories), end="", flush=True)


async def measure_beat(arguments: argparse.Namespace) -> None:
    """The voice's beat with and without repetitions."""
    async for _, house in houses("keyframes"):
        print(await compare(house, 0.1, rtt=arguments.rtt_ms / 1000), flush=True)


async def measure_gstreamer(arguments: argparse.Namespace) -> None:
    """Every loss at GStreamer."""
    for burst, share in itertools.product((1.0, 3.0), (0.0, *arguments.loss)):
        received = await gstreamer_call(
            share,
            seconds=arguments.seconds,
            rtt=arguments.rtt_ms / 1000,
            burst=burst,
            buffer_ms=arguments.buffer_ms,
        )
        print(f"{share:4.0%} {WAYS[burst]}: {received}", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    """What was asked for."""
    if arguments.receiver == "gstreamer":
        await measure_gstreamer(arguments)
        return
    if not arguments.beat:
        await measure(arguments)
    await measure_beat(arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--loss", type=float, nargs="+", default=LOSSES, help="shares, such as 0.05")
    parser.add_argument(
        "--seed", type=int, default=3, help="which packets are lost; 1 loses a call's very first"
    )
    parser.add_argument("--phone", default="", help="only kinds of phone with this in their name")
    parser.add_argument(
        "--trace", action="store_true", help="say of each picture not shown what became of it"
    )
    parser.add_argument(
        "--beat", action="store_true", help="only the voice's beat with and without repetitions"
    )
    parser.add_argument("--receiver", choices=("phone", "gstreamer"), default="phone")
    parser.add_argument("--buffer-ms", type=int, default=BUFFER_MS, help="GStreamer's jitter buffer")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
