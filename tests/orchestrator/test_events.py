"""Events on their way: calls in turn, nothing lost unseen, a webhook that fails, signatures, secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.calls.event import CallEvent
from orchestrator.calls.event_queue import FairQueue
from orchestrator.calls.events import EventBus
from orchestrator.config import load_settings
from orchestrator.gateways.sip_settings import sip_config
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.webhook import webhook as webhook_module
from orchestrator.webhook.signing import Signer, kept_secret, signing_key
from orchestrator.webhook.spool import Spool
from orchestrator.webhook.webhook import make_webhook
from tests.support.calls import ENDED, answered_call
from tests.support.control import SECRET, URL, Control
from tests.support.waiting import until
from visavis.service.logs import JsonFormatter
from visavis.service.secret import Secret, SecretUrl


def dtmf(call_id: str, number: int) -> CallEvent:
    return CallEvent("dtmf", call_id, {"digit": str(number)})


def drained(queue: FairQueue) -> list[CallEvent]:
    out = []
    while (event := queue.take()) is not None:
        out.append(event)
        queue.done(event.call_id)
    return out


def test_one_call_takes_no_room_and_no_turn_of_another() -> None:
    queue = FairQueue()
    honest = [
        CallEvent("answered", "honest"),
        *(dtmf("honest", n) for n in range(20)),
        CallEvent("ended", "honest"),
    ]
    for _ in range(3000):
        queue.put(dtmf("flood", 5))
    for event in honest:
        queue.put(event)
        for _ in range(500):
            queue.put(dtmf("flood", 5))
    out = drained(queue)
    assert [event for event in out if event.call_id == "honest"] == honest
    assert out.index(honest[-1]) <= 2 * len(honest)
    assert sum(event.lost for event in out) == 3000 + 500 * len(honest) - 100


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["dtmf", "avatar", "take", "refuse"])),
        max_size=300,
    )
)
def test_order_counts_and_what_must_not_be_lost(steps: list[tuple[str, Any]]) -> None:
    queue = FairQueue(per_call=5, ordinary=12)
    put: Counter[str] = Counter()
    got: list[CallEvent] = []
    gone = 0
    for name in "abcd":
        queue.put(CallEvent("answered", name, {"n": 0}))
        put[name] += 1
    for name, step in steps:
        if step == "take":
            got += [event] if (event := queue.take()) else []
            if event:
                queue.done(event.call_id)
        elif step == "refuse":
            if event := queue.take():
                queue.put_back(event) if event.lasting else queue.lose(event)
                gone += not event.lasting
                queue.done(event.call_id)
        else:
            gone += len(queue.put(CallEvent(step, name, {"n": put[name]})))
            put[name] += 1
        assert len(queue) <= 12 + 8
    for name in "abcd":
        gone += len(queue.put(CallEvent("ended", name, {"n": put[name]})))
        put[name] += 1
    got += drained(queue)
    for name in "abcd":
        own = [event for event in got if event.call_id == name]
        assert (own[0].kind, own[-1].kind) == ("answered", "ended")
        at = -1
        for event in own:  # each tells exactly how many are missing before it
            assert event.data["n"] == at + 1 + event.lost
            at = event.data["n"]
        assert at == put[name] - 1
    assert sum(put.values()) - len(got) == gone
    assert queue.idle and not queue._calls


def test_lasting_events_are_bounded_and_leave_nothing_behind() -> None:
    queue = FairQueue(lasting=10)
    lost = [queue.put(CallEvent(kind, f"c{n}")) for n in range(20) for kind in ("answered", "ended")]  # type: ignore[arg-type]
    assert sum(len(each) for each in lost) == 30
    assert len(queue) == 10
    assert len(drained(queue)) == 10 and not queue._calls


async def test_a_flood_of_keys_is_cut_to_twenty_a_second_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("orchestrator.calls.call.time.monotonic", lambda: now[0])
    bus = EventBus()
    async with bus.listen() as events:
        call = answered_call(VoiceByLanguage({}), bus)
        heard: list[dict[str, Any]] = []
        for _ in range(5 * 500):
            now[0] += 1 / 500
            call.on_dtmf("5")
            heard += [event.as_dict() for event in drained(events.queue)]
        call.on_end(ENDED)
        heard += [event.as_dict() for event in drained(events.queue)]
    keys = [event for event in heard if event["event"] == "dtmf"]
    assert 100 <= len(keys) <= 121
    assert sum(event.get("dropped", 0) for event in heard) + len(keys) == 2500


async def test_listeners_hear_keys_and_no_log_does(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    async with bus.listen() as events:
        with caplog.at_level("INFO", "orchestrator"):
            answered_call(VoiceByLanguage({}), bus).on_dtmf("7")
        heard = [event.as_dict() for event in drained(events.queue)]
    assert [event["digit"] for event in heard if event["event"] == "dtmf"] == ["7"]
    told = [vars(record)["fields"] for record in caplog.records if record.message == "dtmf"]
    assert [set(fields) for fields in told] == [{"call"}]


async def test_a_listener_to_one_call_hears_that_one_only() -> None:
    bus = EventBus()
    async with bus.listen(call_id="a") as events:
        for number in range(5000):
            bus.publish(dtmf("b", number % 10))
        bus.publish(dtmf("a", 1))
        assert (await events.get()).call_id == "a"
        with pytest.raises(asyncio.QueueEmpty):
            events.get_nowait()
    assert not bus.lost


async def test_loss_is_a_metric_and_a_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = Control(tmp_path)
    with caplog.at_level(logging.WARNING):
        for number in range(500):
            house.bus.publish(dtmf("a", number % 10))
    assert [record.message for record in caplog.records] == ["events_lost"]
    assert 'visavis_events_lost_total{listener="webhook"} 400.0' in (await house.api.get("/metrics")).text
    house.start()
    house.bus.publish(CallEvent("ended", "a"))
    await house.posts_of("a", "ended")
    assert house.posted[0]["lost"] == 400
    await house.close()


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of https://www.standardwebhooks.com and its libraries."""
    headers = Signer(Secret(SECRET)).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["whsec_###", "whsec_YWJj", "short"])
def test_a_useless_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError) as refused:
        signing_key(secret)
    assert secret.removeprefix("whsec_") not in str(refused.value)


def test_a_secret_is_made_once_and_only_we_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "webhook" / "secret"
    made = kept_secret(path)
    assert kept_secret(path) == made and made.reveal().startswith("whsec_")
    assert path.stat().st_mode & 0o777 == 0o600
    Signer(made)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts."""
    monkeypatch.setattr(webhook_module, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(webhook_module, "LAST_RETRY_S", 0.01)
    monkeypatch.setattr(webhook_module, "SPOOL_EVERY_S", 0.01)


async def test_every_post_is_signed_and_a_repetition_has_the_same_id(tmp_path: Path, hasty: None) -> None:
    house = Control(tmp_path)
    house.start()
    house.status = 503
    house.bus.publish(CallEvent("answered", "a", {"caller": "sip:ü@b"}))
    await until(lambda: len(house.requests) > 3)
    house.status = 204
    await house.posts_of("a", "answered")
    signer = Signer(Secret(SECRET))
    for post in house.requests:
        known = post.headers["webhook-id"], int(post.headers["webhook-timestamp"])
        assert signer.headers(*known, post.content)["webhook-signature"] == post.headers["webhook-signature"]
    assert len({post.headers["webhook-id"] for post in house.requests}) == 1
    await house.close()


async def test_what_must_not_be_lost_outlives_an_outage_and_the_process(tmp_path: Path, hasty: None) -> None:
    first = Control(tmp_path)
    first.start()
    first.status = 500
    for name in "abc":
        first.bus.publish(CallEvent("answered", name))
        for number in range(300):
            first.bus.publish(dtmf(name, number % 10))
        first.bus.publish(CallEvent("ended", name, {"cause": "bye by peer"}))
    await until(lambda: len(list(tmp_path.glob("webhook/*/msg_*.json"))) == 6)
    await first.supervisor.close()  # as if it were killed: nothing is said to the spool any more
    os.close(first.webhook._spool._lock or -1)

    second = Control(tmp_path)
    second.start()
    await until(lambda: len(second.posted) == 6)
    for name in "abc":
        assert [event["event"] for event in second.posted if event["call_id"] == name] == [
            "answered",
            "ended",
        ]
    await until(lambda: not list(tmp_path.glob("webhook/*/msg_*.json")))
    await second.close()
    await first.webhook._client.aclose()
    await first.archive.close()


def left_in(folder: Path) -> list[CallEvent]:
    """What the next process would find."""
    spool = Spool(folder)
    try:
        return spool.load()
    finally:
        spool.close()


async def test_a_living_process_keeps_its_spool(tmp_path: Path) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    one.load()
    one.write([CallEvent("ended", "a")])
    assert other.load() == []
    other.close()
    one.close()
    assert [event.call_id for event in left_in(tmp_path)] == ["a"]


async def test_a_spool_that_is_closed_while_it_opens_holds_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.close()
    spool.load()
    spool.write([CallEvent("ended", "a")])
    assert left_in(tmp_path) == []


async def test_a_spool_that_cannot_be_written_or_read_costs_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    spool = Spool(blocked)
    assert spool.load() == []
    spool.write([CallEvent("ended", "a")])
    spool.close()
    left = tmp_path / "spool" / "0123"
    left.mkdir(parents=True)
    (left / "msg_1.json").write_text('{"kind": "ended"')
    (left / "msg_2.json").write_text('{"kind": "dtmf", "call_id": "a", "data": {}, "time": 1}')
    assert left_in(tmp_path / "spool") == []


async def test_one_refused_event_holds_up_no_other_call(tmp_path: Path, hasty: None) -> None:
    house = Control(tmp_path)

    def post(request: httpx.Request) -> httpx.Response:
        event = json.loads(request.content)
        house.posted.append(event)
        return httpx.Response(400 if event["call_id"] == "bad" else 200)

    house.webhook._client._transport = httpx.MockTransport(post)
    house.start()
    house.bus.publish(dtmf("bad", 1))
    house.bus.publish(dtmf("bad", 2))
    house.bus.publish(CallEvent("ended", "bad"))
    house.bus.publish(CallEvent("ended", "good"))
    await house.posts_of("good", "ended")
    await until(lambda: house.bus.lost["webhook"] == 2)
    assert (await house.posts_of("bad", "ended"))["lost"] == 2
    await house.supervisor.close()
    await house.close()


async def test_a_failing_webhook_shows_nothing_of_its_address(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    house = Control(tmp_path)
    house.start()
    for status in (500, 404, 302):
        house.status = status
        house.webhook._logged_at = float("-inf")
        sent = len(house.requests)
        house.bus.publish(CallEvent("ended", f"c{status}"))
        await until(lambda sent=sent: len(house.requests) > sent + 2)

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {request.url}")

    house.webhook._client._transport = httpx.MockTransport(refuse)
    house.webhook._logged_at = float("-inf")
    await until(lambda: any("ConnectError" in JsonFormatter().format(record) for record in caplog.records))
    lines = [JsonFormatter().format(record) for record in caplog.records]
    told = [json.loads(line) for line in lines if "webhook_failed" in line]
    assert {line["url"] for line in told} == {"https://hook.example/***"}
    metrics = (await house.api.get("/metrics")).text
    for text in (*lines, metrics, repr(house.webhook.__dict__)):
        assert "seeded" not in text
    assert "visavis_webhook_posts_total" in metrics
    assert house.supervisor.failures == []
    await house.supervisor.close()
    await house.close()


def test_no_setting_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISAVIS_WEBHOOK", URL)
    monkeypatch.setenv("VISAVIS_WEBHOOK_SECRET", "seeded-secret-of-the-webhook")
    monkeypatch.setenv("VISAVIS_SIP_USERS", '{"anna": "seeded-one"}')
    monkeypatch.setenv("VISAVIS_SIP_ACCOUNTS", '[{"uri": "sip:a@b", "password": "seeded-two"}]')
    settings = load_settings([])
    shown = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        repr(sip_config(settings)),
    ]
    shown += [f"{settings.webhook} {settings.webhook_secret!r}", "%s" % settings.sip_accounts[0].password]  # noqa: UP031
    assert "seeded" not in " ".join(shown)
    assert settings.sip_accounts[0].password.reveal() == "seeded-two"
    for name, value in (
        ("WEBHOOK", "ftp://seeded-host/x"),
        ("WEBHOOK_SECRET", "seeded"),
        ("SIP_ACCOUNTS", '[{"password": "seeded"}]'),
    ):
        monkeypatch.setenv(f"VISAVIS_{name}", value)
        with pytest.raises(SystemExit):
            load_settings([])
        said = capsys.readouterr().err
        assert f"VISAVIS_{name}" in said and "seeded" not in said
        monkeypatch.delenv(f"VISAVIS_{name}")


def test_a_secret_is_seen_only_where_it_is_asked_for() -> None:
    secret, url = Secret("a password"), SecretUrl("https://u:p@host:8443/path?token=t")
    assert f"{secret} {secret!r} {secret:>5}" == "*** Secret('***')   ***"
    assert (str(url), str(SecretUrl("")), str(SecretUrl("http://[bad"))) == (
        "https://host:8443/***",
        "",
        "***",
    )
    assert secret == Secret("a password") and secret != Secret("another") and secret != "a password"
    assert json.dumps({"key": secret}, default=str) == '{"key": "***"}'
    with pytest.raises(TypeError):
        json.dumps(secret)


async def test_what_waits_at_the_end_is_kept_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = Control(tmp_path)  # which never begins to post
    house.webhook._spool.load()
    for event in (CallEvent("answered", "a"), dtmf("a", 1), dtmf("a", 2), CallEvent("ended", "a")):
        house.bus.publish(event)
    await house.webhook.close(0.0)
    assert [record.fields for record in caplog.records] == [{"listener": "webhook", "count": 2}]  # type: ignore[attr-defined]
    assert [event.kind for event in left_in(tmp_path / "webhook")] == ["answered", "ended"]


def test_a_webhook_that_cannot_be_signed_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "webhook"
    folder.mkdir()
    (folder / "secret").write_text("x")
    with pytest.raises(OSError, match="delete it, and another is made"):
        make_webhook(EventBus(), SecretUrl(URL), Secret(), tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="set VISAVIS_WEBHOOK_SECRET"):
        make_webhook(EventBus(), SecretUrl(URL), Secret(), blocked)
