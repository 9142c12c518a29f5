"""TLS by files on every face, and certificates of clients in place of tokens."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from testing.ports import free_port
from tests.peers.certificates import Authority
from tests.support.credentials import API, FLEET_TOKEN
from tests.support.house import orchestrator
from tests.support.servers import running_server
from visavis import AvatarClient, HttpServerClient, ServerCredentials, ServerUnavailable
from visavis.service.listening import Tls

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("openssl")]

NAME = "lips.example.com"


async def test_a_pair_that_speaks_tls_everywhere(tmp_path: Path) -> None:
    authority, probes = Authority(tmp_path), free_port()
    pem, key = authority.issue(NAME)
    tls = {"tls_certificate": pem, "tls_key": key}
    async with (
        running_server(slots=2, **tls) as server,
        orchestrator(
            server.address,
            wait=False,
            avatar_tls_ca=authority.ca,
            avatar_tls_name=NAME,
            api_tls_certificate=pem,
            api_tls_key=key,
            probe_port=probes,
        ) as house,
    ):
        url = f"https://127.0.0.1:{house.api.base_url.port}"
        context = ssl.create_default_context(cafile=authority.ca)
        async with httpx.AsyncClient(base_url=url, verify=context, headers=API, timeout=60) as api:
            house.api = api
            await house.ready()
            assert (await api.get("/healthz")).status_code == 404
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{probes}") as plain:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await plain.get(path)).status_code == 200
            assert (await plain.get("/v1/calls", headers=API)).status_code == 404
        trusted = ServerCredentials(token=FLEET_TOKEN, tls_ca=authority.ca)
        async with AvatarClient(server.address, credentials=trusted) as client:
            assert (await client.capabilities()).engine == "mock"
        over_http = HttpServerClient(f"https://127.0.0.1:{server.http_port}", credentials=trusted)
        assert (await over_http.capabilities()).engine == "mock"
        await over_http.close()
        async with AvatarClient(server.address, token=FLEET_TOKEN) as plain_client:
            with pytest.raises(ServerUnavailable):
                await plain_client.capabilities()
        strange = HttpServerClient(f"https://127.0.0.1:{server.http_port}", token=FLEET_TOKEN)
        with pytest.raises(ServerUnavailable, match="certificate verify failed"):
            await strange.capabilities()
        await strange.close()


async def test_a_certificate_in_place_of_a_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pem, key = authority.issue(NAME)
    mine, my_key = authority.issue("orchestrator.example.com")
    settings = {"tls_certificate": pem, "tls_key": key, "tls_client_ca": authority.ca}
    known = ServerCredentials(
        token_file=str(tmp_path / "none"), tls_ca=authority.ca, tls_certificate=mine, tls_key=my_key
    )
    unknown = ServerCredentials(token=FLEET_TOKEN, tls_ca=authority.ca)
    async with running_server(slots=2, **settings) as server:
        url = f"https://127.0.0.1:{server.http_port}"
        async with AvatarClient(server.address, credentials=known) as client:
            assert (await client.capabilities()).engine == "mock"
        over_http = HttpServerClient(url, credentials=known)
        assert (await over_http.capabilities()).engine == "mock"
        await over_http.close()
        async with AvatarClient(server.address, credentials=unknown) as client:
            with pytest.raises(ServerUnavailable):
                await client.capabilities()
        stranger = HttpServerClient(url, credentials=unknown)
        with pytest.raises(ServerUnavailable):
            await stranger.capabilities()
        await stranger.close()


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    pem, key = Authority(tmp_path).issue(NAME)
    Tls(pem, key).check()
    for files, sentence in (
        (Tls(pem), "a TLS certificate and its key go together"),
        (Tls("", "", pem), "needs a certificate of ours"),
        (Tls(str(tmp_path / "no.pem"), key), "no.pem cannot be used"),
        (Tls(pem, pem), "cannot be used"),
    ):
        with pytest.raises(ValueError, match=sentence):
            files.check()
