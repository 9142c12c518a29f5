"""Accounts and trunks: which one a call came over, and what is different on each."""

from __future__ import annotations

import pytest

from orchestrator.config import AccountSettings, Settings
from orchestrator.gateways.sip_media import capabilities, trim_ms
from orchestrator.gateways.sip_settings import sip_config
from orchestrator.sip.agent.registration import Registration
from orchestrator.sip.config import Account
from orchestrator.worker.messages import CallOpened
from tests.support.sip_fake import AUDIO, PEER, VIDEO, Wire, request, sdp

ANNA, BEN, ELSEWHERE = "sip:anna@127.0.0.1", "sip:ben@127.0.0.1", "sip:anna@elsewhere.test"


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ([(ELSEWHERE, "sip:127.0.0.77"), (BEN, f"sip:{PEER[0]}"), (ANNA, f"sip:{PEER[0]}")], ANNA),
        ([(BEN, f"sip:{PEER[0]};transport=tcp")], BEN),
        ([(ANNA, "sip:127.0.0.77")], ""),  # who dials our address from elsewhere does not come over the trunk
        ([], ""),
    ],
)
async def test_a_call_belongs_to_the_trunk_it_comes_from(
    accounts: list[tuple[str, str]], expected: str
) -> None:
    wire = Wire()
    for uri, proxy in accounts:
        wire.agent.registrations.append(Registration(wire.agent.client, Account(uri, proxies=(proxy,))))
    await wire.put(request("INVITE", body=sdp(AUDIO, VIDEO)))
    (call,) = wire.handler.calls
    assert call.account == expected


def test_what_a_trunk_has_of_its_own() -> None:
    trunk = AccountSettings(uri=ANNA, srtp="required", av_trim_ms=0, register=False, proxies=["sip:pbx;lr"])
    plain = AccountSettings(uri=BEN)
    settings = Settings(sip_accounts=[trunk, plain], av_trim_ms=80, srtp="optional")
    ports = CallOpened("c", 4000, 4002)
    assert [trim_ms(settings, uri) for uri in (ANNA, BEN, "")] == [0, 80, 80]
    offered = [capabilities(settings, ports, "", uri).srtp for uri in (ANNA, BEN, "")]
    assert offered == ["required", "optional", "optional"]
    config = sip_config(settings)
    assert [(account.uri, account.register, account.proxies) for account in config.accounts] == [
        (ANNA, False, ("sip:pbx;lr",)),
        (BEN, True, ()),
    ]
