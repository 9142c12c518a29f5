"""Registering with a registrar or trunk (RFC 3261 section 10): digest, refresh, several proxies, backing off."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.client import Client, renew
from orchestrator.sip.call.dialog import new_tag
from orchestrator.sip.config import Account
from orchestrator.sip.message.grammar import GrammarError, NameAddr, Uri, parse_name_addr, parse_uri
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.sdp.description import small_int
from orchestrator.sip.transaction.timers import pause
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.locate import Hop
from visavis.service.logs import Log

log = Log(__name__)
FIRST_RETRY = 5.0
LAST_RETRY = 300.0
KEEPALIVE = 25.0
MAX_HOSTS = 256
"""Addresses of a trunk that are remembered, those that DNS named last."""


class Trunk:
    """The proxies of an account, and which of them answer OPTIONS."""

    def __init__(self, client: Client, account: Account) -> None:
        self._client = client
        self._account = account
        self._proxies = tuple(parse_uri(proxy) for proxy in account.proxies)
        self._silent: set[str] = set()
        self._hosts = dict.fromkeys(proxy.bare_host for proxy in self._proxies)

    def proxies(self) -> tuple[Uri, ...]:
        """In the configured order, those that do not answer last."""
        return tuple(sorted(self._proxies, key=lambda proxy: str(proxy) in self._silent))

    async def hops(self, proxy: Uri) -> list[Hop]:
        """The servers of a proxy or registrar: each of them may call. Raises OSError where there is none."""
        hops = await self._client.hops(proxy)
        for hop in hops:
            self._hosts.pop(hop.host, None)
            self._hosts[hop.host] = None
            self._client.trust(hop)
        while len(self._hosts) > MAX_HOSTS:
            del self._hosts[next(iter(self._hosts))]
        return hops

    @property
    def hosts(self) -> frozenset[str]:
        """The servers that are known so far."""
        return frozenset(self._hosts)

    def owns(self, host: str) -> bool:
        """Whether calls from this address come over the trunk."""
        return host in self._hosts

    async def run(self) -> None:
        while True:
            await asyncio.gather(*(self._ping(proxy) for proxy in self._proxies))
            await pause(self._client.clock, self._account.ping)

    async def _ping(self, proxy: Uri) -> None:
        request = Request(method="OPTIONS", uri=f"{proxy.scheme}:{proxy.host}")
        request.headers.add("Max-Forwards", "70")
        request.headers.add("From", f"<{self._account.uri}>;tag={new_tag()}")
        request.headers.add("To", f"<{proxy.without_headers()}>")
        request.headers.add("Call-ID", secrets.token_hex(12))
        request.headers.add("CSeq", "1 OPTIONS")
        client, silent = self._client, True
        try:
            hops = await self.hops(proxy)
        except OSError as error:
            log.info("trunk_unreachable", proxy=proxy, reason=error)
            hops = []
        for hop in hops:
            try:
                flow = await client.open(hop)
            except (OSError, TimeoutError) as error:
                log.info("trunk_unreachable", proxy=proxy, reason=error)
                continue
            response = await client.exchange(request, flow, impatient=hop is not hops[-1])
            silent = response.status in (408, 503)  # any other answer says that somebody is there
            if not silent:
                break
            client.avoid(hop)
            renew(request, request.cseq[0] + 1)
        if silent != (str(proxy) in self._silent):
            log.warning("trunk", proxy=proxy, reachable=not silent)
        (self._silent.add if silent else self._silent.discard)(str(proxy))


def account_of(registrations: list[Registration], dialled: Uri, host: str) -> str:
    """The uri of the account that a call to `dialled` from `host` came over; empty for none."""
    own = [registration for registration in registrations if registration.trunk.owns(host)]
    own.sort(key=lambda registration: not registration.is_dialled(dialled))
    return own[0].account.uri if own else ""


class Registration:
    """The registration of one account, kept up until `close`. `registered` and `status` say how it stands."""

    def __init__(self, client: Client, account: Account) -> None:
        self.account = account
        self.registered = False
        self.status = 0
        self.expires = account.expires
        self._client = client
        self._aor = parse_uri(account.uri)
        user = account.username or self._aor.decoded_user
        registrar = account.registrar or f"sip:{self._aor.host}"
        self._registrar = parse_uri(registrar)
        self.trunk = Trunk(client, account)
        names = {uri.bare_host.lower() for uri in (self._aor, self._registrar)} | self.trunk.hosts
        self.credentials = Credentials(user, account.password, account.realm, names, self.trunk)
        self._call_id = secrets.token_hex(12)
        self._tag = new_tag()
        self._seq = 0
        self._flow: Flow | None = None
        self._hop: Hop | None = None

    def proxies(self, target: Uri) -> Sequence[Uri | None]:
        """The proxies of a call to `target`; with a password those of the account or its registrar, in any case."""
        proxies = self.trunk.proxies()
        if proxies or not self.account.password or self._is_registrar(target):
            return proxies or (None,)
        return (self._registrar,)

    async def hops(self, uri: Uri) -> list[Hop]:
        """The servers of a proxy, of the registrar, or of somebody else. Raises OSError where there is none."""
        ours = self._is_registrar(uri) or uri in self.trunk.proxies()
        return await (self.trunk if ours else self._client).hops(uri)

    def _is_registrar(self, uri: Uri) -> bool:
        ours = self._registrar
        return (uri.bare_host.lower(), uri.port) == (ours.bare_host.lower(), ours.port)

    @property
    def local(self) -> NameAddr:
        return NameAddr(self._aor)

    def is_dialled(self, uri: Uri) -> bool:
        """Whether `uri` is this account's address of record."""
        return (uri.user, uri.host.lower()) == (self._aor.user, self._aor.host.lower())

    async def run(self) -> None:
        """Register, refresh before it runs out, try the next proxy and back off where that fails."""
        retry = FIRST_RETRY
        while True:
            response = await self.register(self.expires)
            if self.registered:
                retry = FIRST_RETRY
                await self._sleep(max(self.expires * 0.8, self.expires - 60.0, 10.0))
                continue
            log.warning("register_failed", account=self.account.uri, status=response.status)
            after = small_int((response.headers.get("Retry-After") or "").partition(";")[0], 86_400)
            await self._sleep(max(retry, float(after or 0)))
            retry = min(2 * retry, LAST_RETRY)

    async def register(self, expires: int) -> Response:
        """One REGISTER over the first proxy that answers; 0 removes the registration."""
        response = Response(status=503, reason="no proxy")
        proxies = self.trunk.proxies() or (self._registrar,)
        for proxy in proxies:
            response = await self._ask_each(proxy, expires, more=proxy is not proxies[-1])
            if response.status not in (408, 503):
                break
        self.status = response.status
        self.registered = response.status == 200 and expires > 0
        if self.registered:
            self.expires = self._granted(response)
            log.info("registered", account=self.account.uri, expires=self.expires)
        return response

    async def close(self) -> None:
        if self.registered:
            await self.register(0)

    async def _ask_each(self, proxy: Uri, expires: int, *, more: bool) -> Response:
        """The servers of one proxy in turn, until one answers; `more` says that there are other proxies."""
        response = Response(status=503, reason="unreachable")
        try:
            hops = await self.trunk.hops(proxy)
        except OSError as error:
            return Response(status=503, reason=str(error))
        hops.sort(key=lambda hop: hop != self._hop)  # the one that answered last time first
        for hop in hops:
            impatient = more or hop is not hops[-1]
            try:
                response = await self._ask(hop, self._request(proxy, expires), expires, impatient=impatient)
            except (OSError, TimeoutError) as error:
                response = Response(status=503, reason=str(error) or "no connection in time")
                continue
            if response.status not in (408, 503):
                self._hop = hop
                break
            self._hop = None
            self._client.avoid(hop)
        return response

    async def _ask(self, hop: Hop, request: Request, expires: int, *, impatient: bool) -> Response:
        response = Response(status=503, reason="unreachable")
        for _ in range(4):
            self._flow = flow = await self._client.open(hop)
            response = await self._client.exchange(request, flow, impatient=impatient)
            shortest = small_int(response.headers.get("Min-Expires") or "", 86_400)
            if response.status == 423 and shortest and shortest > expires > 0:
                expires = self.expires = shortest
                request.headers.set("Expires", str(expires))
            elif not self._client.authorize(self.credentials, request, response, self._flow.remote[0]):
                break
            self._seq += 1
            renew(request, self._seq)
        return response

    def _request(self, proxy: Uri, expires: int) -> Request:
        self._seq += 1
        registrar = Uri(self._registrar.scheme, None, self._registrar.host, self._registrar.port)
        request = Request(method="REGISTER", uri=str(registrar))
        if proxy != self._registrar:
            route = Uri(proxy.scheme, None, proxy.host, proxy.port, {**proxy.params, "lr": None})
            request.headers.add("Route", f"<{route}>")
        request.headers.add("Max-Forwards", "70")
        request.headers.add("From", f"<{self._aor}>;tag={self._tag}")
        request.headers.add("To", f"<{self._aor}>")
        request.headers.add("Call-ID", self._call_id)
        request.headers.add("CSeq", f"{self._seq} REGISTER")
        request.headers.add("Expires", str(expires))
        return request

    def _granted(self, response: Response) -> int:
        """What the registrar granted our own Contact, else its Expires header, else what we asked for."""
        ours = self._flow.contact_uri(self._client.config.contact_user) if self._flow else ""
        try:
            for value in response.headers.values("Contact"):
                contact = parse_name_addr(value)
                if str(contact.uri).partition(";")[0] == ours.partition(";")[0]:
                    granted = small_int(contact.params.get("expires") or "", 10**7)
                    if granted:
                        return granted
        except GrammarError:
            pass
        return small_int(response.headers.get("Expires") or "", 10**7) or self.expires

    async def _sleep(self, seconds: float) -> None:
        """Wait, keeping the way through a NAT open (RFC 5626 section 3.5.1) while registered."""
        end = self._client.clock.now() + seconds
        while (left := end - self._client.clock.now()) > 0:
            await pause(self._client.clock, min(left, KEEPALIVE))
            if self._flow is not None and self.registered:
                if self._flow.closed:
                    return
                self._flow.send(b"\r\n\r\n")
