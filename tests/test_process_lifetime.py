"""What grows with a process's life: avatars, servers, failures, outcomes, nonces, re-INVITEs. No sleeps."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from inference_server.avatars.catalogue import Catalogue
from inference_server.metrics import Metrics
from inference_server.settings import Settings
from orchestrator.calls.events import CallEvent
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import SilentVoice, StillBody
from orchestrator.media.video.idle_loop import FAILED_KEPT, IdleCache
from orchestrator.metrics import OUTCOMES, OrchestratorCollector
from orchestrator.sip.agent.authentication import NONCES_COUNTED, Credentials
from orchestrator.sip.agent.policy import MAX_SOURCES, SourcePolicy
from orchestrator.sip.call.invite import ACKS_KEPT, Acks
from orchestrator.sip.message.message import Request, Response
from orchestrator.worker.host import MediaHost
from tests.inference.test_store import put
from tests.media.test_video import Now, key
from tests.support.media import Phone
from visavis.client.discovery import Discovery
from visavis.client.model import Avatar, AvatarSource
from visavis.client.placement import Placement
from visavis.client.replicas import Replicas
from visavis.service.logs import Log

pytest_plugins = ["tests.support.media_fixtures"]

MANY = 1000


def avatar(number: int) -> Avatar:
    return Avatar(f"avatar {number}", "b", b"", 64, 48, Fraction(25), 50)


def test_portraits_of_avatars_that_nobody_uses_are_let_go() -> None:
    clients: dict[str, Any] = {"a:1": object()}
    replicas = Replicas(Placement(["a:1"]), clients)
    replicas.remember(avatar(0), AvatarSource(b"in use", 64, 48, Fraction(25)))
    replicas.use(avatar(0), 1)
    for number in range(1, MANY):
        replicas.remember(avatar(number), AvatarSource(bytes(1000), 64, 48, Fraction(25)))
        replicas._ids[f"pod-{number}:1", f"avatar {number}"] = "other"
        replicas._warm_after["a:1", f"avatar {number}"] = 0.0
        replicas.use(avatar(number), 1)
        replicas.use(avatar(number), -1)
    for known in (replicas._avatars, replicas._sources, replicas._ids, replicas._warm_after):
        assert len(known) <= 130
    assert f"avatar {MANY - 1}" in replicas._sources
    assert replicas._sources["avatar 0"].image == b"in use"
    assert dict(replicas._uses) == {"avatar 0": 1}


def test_addresses_that_conversations_have_left_are_let_go() -> None:
    discovery = Discovery([], Placement(), cast(Any, None), None)
    for number in range(MANY):
        discovery.entered(f"pod-{number}:1")
        discovery.left(f"pod-{number}:1")
    assert not discovery._streams


def test_a_server_names_only_avatars_that_are_still_on_its_disk(tmp_path: Path) -> None:
    from inference_server.avatars.store import AvatarStore

    store = AvatarStore(tmp_path, 400_000)
    engine: Any = SimpleNamespace(loaded=None)
    catalogue = Catalogue(Settings(), store, engine, Metrics(), Log("test"))
    for number in range(12):
        catalogue._added(put(store, number).avatar_id)
    assert catalogue.ids == set(store.avatar_ids("e", "b1"))
    assert 0 < len(catalogue.ids) < 12


def test_outcomes_that_a_phone_words_share_a_label_in_the_end() -> None:
    switchboard: Any = SimpleNamespace(active=0, refused=0, call=lambda call_id: None)
    collector = OrchestratorCollector(switchboard, cast(Any, SimpleNamespace(workers=[])))
    collector.count(CallEvent("ended", "c", {"cause": "bye by peer"}))
    for number in range(MANY):
        collector.count(CallEvent("ended", "c", {"cause": f"media address 'host-{number}' is no IP address"}))
        collector.count(CallEvent("ended", "c", {"cause": "bye by peer"}))
    assert len(collector._events) == OUTCOMES + 1
    assert collector._events["ended", "bye by peer"] == MANY + 1
    assert sum(collector._events.values()) == 2 * MANY + 1


def test_loops_that_could_not_be_coded_are_not_all_remembered() -> None:
    cache = IdleCache(Now())
    body = StillBody("broken", np.zeros((2, 1, 7), np.uint8))
    first = key(body)
    for number in range(FAILED_KEPT + 10):
        assert cache.get(body, replace(first, body_id=f"broken {number}")) is None
    assert len(cache._failed) == FAILED_KEPT


def test_acks_of_a_call_with_many_refreshes_are_not_all_kept() -> None:
    sent: list[Request] = []
    call: Any = SimpleNamespace(
        dialog=SimpleNamespace(request=lambda method, seq: Request(method=method, uri=f"sip:{seq}@a"))
    )
    client: Any = SimpleNamespace(send_ack=lambda call, ack: sent.append(ack))
    acks = Acks(client, call)
    for number in range(1, MANY + 1):
        invite = Request(method="INVITE", uri="sip:a@b")
        invite.headers.add("CSeq", f"{number} INVITE")
        acks.acknowledge(invite)
    assert len(acks._sent) == ACKS_KEPT
    again = Response(status=200, reason="OK")
    again.headers.add("CSeq", f"{MANY} INVITE")
    acks.again(again)
    assert len(sent) == MANY + 1 and sent[-1] is sent[-2]


def test_nonces_of_an_account_are_not_all_counted() -> None:
    credentials = Credentials("anna", "secret")
    for number in range(MANY):
        for _ in range(2):
            request = Request(method="REGISTER", uri="sip:b")
            challenge = Response(status=401, reason="")
            challenge.headers.add("WWW-Authenticate", f'Digest realm="r", nonce="n{number}", qop="auth"')
            assert credentials.answer(request, challenge)
    assert "nc=00000002" in (request.headers.get("Authorization") or "")
    assert len(credentials._counts) == NONCES_COUNTED


def test_addresses_of_trunks_are_not_all_trusted_for_ever() -> None:
    policy = SourcePolicy(lambda: 0.0)
    for number in range(MAX_SOURCES + 10):
        policy.trust(f"2001:db8::{number:x}")
    assert len(policy._trusted) == MAX_SOURCES
    assert policy.may_call(f"2001:db8::{MAX_SOURCES + 9:x}") and not policy.may_call("2001:db8::0")


@pytest.mark.parametrize("change", ["hold", "picture", "size"])
async def test_re_invites_leave_no_more_than_the_first(host: MediaHost, phone: Phone, change: str) -> None:
    rounds = {"hold": MANY, "picture": 200, "size": 40}[change]
    audio = AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp"))
    video = VideoParameters(96, phone.address("video"), 192, 128, remote_rtcp=phone.address("video_rtcp"))
    other = {
        "hold": (replace(audio, direction="recvonly"), replace(video, direction="recvonly")),
        "picture": (audio, None),
        "size": (audio, replace(video, width=160, height=96)),
    }[change]
    session = host.session(SilentVoice(), None)
    session.update(audio, video)
    session.start()

    def size() -> tuple[int, int, int]:
        wheel = host.clock.wheel
        wheel.advance(wheel.slot + 40, lambda: wheel.time_of(wheel.slot))  # simulated: jobs of the past end
        gc.collect()
        objects = sum(str(type(o).__module__).startswith("orchestrator.") for o in gc.get_objects())
        return tracemalloc.get_traced_memory()[0], objects, len(list(Path("/proc/self/fd").iterdir()))

    def turn_over(times: int) -> None:
        for _ in range(times):
            session.update(*other)
            session.update(audio, video)

    tracemalloc.start()
    try:
        turn_over(3)
        before = size()
        turn_over(rounds)
        after = size()
    finally:
        tracemalloc.stop()
        session.stop()
    assert after[1] <= before[1] + 5
    assert after[2] <= before[2]
    assert after[0] - before[0] < 100_000
