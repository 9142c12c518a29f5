"""Dialogs (RFC 3261 section 12): identity, sequence numbers, route set, remote target."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from orchestrator.sip.message.grammar import GrammarError, NameAddr, Uri, parse_name_addr, parse_uri
from orchestrator.sip.message.message import Request, Response, make_response
from orchestrator.sip.transport.flow import Flow

DialogId = tuple[str, str, str]


def new_tag() -> str:
    return secrets.token_hex(8)


@dataclass(slots=True)
class Dialog:
    """One dialog. `local` and `remote` are From/To values without their tags; `flow` is where the peer last spoke.

    `pinned` keeps requests on that flow: a connection the peer opened, or a peer behind a NAT.
    """

    call_id: str
    local: NameAddr
    remote: NameAddr
    local_tag: str
    remote_tag: str
    remote_target: Uri
    flow: Flow
    route_set: list[str] = field(default_factory=list)
    local_seq: int = 0
    remote_seq: int | None = None
    pinned: bool = False

    @property
    def id(self) -> DialogId:
        return (self.call_id, self.local_tag, self.remote_tag)

    @classmethod
    def from_invite(cls, request: Request, flow: Flow, local_tag: str) -> Dialog:
        """The UAS end (section 12.1.1). A missing Contact (RFC 2543) leaves the From URI as target."""
        contact = request.contact()
        via = request.via
        behind_nat = via.bare_host.lower() != flow.remote[0].lower() and "received" in via.params
        return cls(
            call_id=request.call_id,
            local=request.to,
            remote=request.from_,
            local_tag=local_tag,
            remote_tag=request.from_.tag or "",
            remote_target=(contact or request.from_).uri.without_headers(),
            flow=flow,
            route_set=_route_set(request),
            local_seq=secrets.randbelow(2**20),
            remote_seq=request.cseq[0],
            pinned=flow.reliable or behind_nat,
        )

    @classmethod
    def from_response(cls, request: Request, response: Response, flow: Flow) -> Dialog:
        """The UAC end (section 12.1.2) of one fork."""
        contact = response.contact()
        return cls(
            call_id=request.call_id,
            local=request.from_,
            remote=response.to,
            local_tag=request.from_.tag or "",
            remote_tag=response.to.tag or "",
            remote_target=(contact.uri.without_headers() if contact else parse_uri(request.uri)),
            flow=flow,
            route_set=_route_set(response)[::-1],
            local_seq=request.cseq[0],
        )

    def accepts(self, request: Request) -> bool:
        """Whether a request's CSeq is in order; remembers it (section 12.2.2). ACK repeats its INVITE's."""
        number = request.cseq[0]
        if self.remote_seq is not None and number < self.remote_seq:
            return False
        if self.remote_seq == number and request.method not in ("ACK", "CANCEL"):
            return False
        self.remote_seq = number
        return True

    def refresh_target(self, message: Request | Response) -> None:
        """Take the Contact of a target refresh: re-INVITE, UPDATE and their 2xx."""
        try:
            contact = message.contact()
        except GrammarError:
            return
        if contact is not None and contact.uri.is_sip:
            self.remote_target = contact.uri.without_headers()

    def request(self, method: str, *, seq: int | None = None) -> Request:
        """A request within the dialog (section 12.2.1.1), routed loosely or strictly; without Via and Contact."""
        if seq is None:
            self.local_seq += 1
            seq = self.local_seq
        request = Request(method=method, uri=str(self.remote_target))
        routes = list(self.route_set)
        if routes and not _is_loose(routes[0]):
            request.uri = str(parse_name_addr(routes[0]).uri)
            routes = [*routes[1:], f"<{self.remote_target}>"]
        for route in routes:
            request.headers.add("Route", route)
        request.headers.add("Max-Forwards", "70")
        request.headers.add("From", _tagged(self.local, self.local_tag))
        request.headers.add("To", _tagged(self.remote, self.remote_tag))
        request.headers.add("Call-ID", self.call_id)
        request.headers.add("CSeq", f"{seq} {method}")
        return request

    def next_hop(self) -> Uri:
        """Where requests go: the first route, whichever kind it is, else the remote target."""
        if self.route_set:
            return parse_name_addr(self.route_set[0]).uri
        return self.remote_target

    def response(self, request: Request, status: int, reason: str | None = None) -> Response:
        """A response inside the dialog, with the one To tag; Record-Route is copied where a dialog is made."""
        response = make_response(request, status, reason, to_tag=self.local_tag)
        if request.method == "INVITE" and 100 < status < 300:
            for route in request.headers.all("Record-Route"):
                response.headers.add("Record-Route", route)
        return response


def _route_set(message: Request | Response) -> list[str]:
    """The Record-Route values, each known to be readable; raises GrammarError."""
    routes = message.headers.values("Record-Route")
    for route in routes:
        if not parse_name_addr(route).uri.is_sip:
            raise GrammarError("Record-Route without a SIP URI")
    return routes


def _is_loose(route: str) -> bool:
    return "lr" in parse_name_addr(route).uri.params


def _tagged(address: NameAddr, tag: str) -> str:
    params = {name: value for name, value in address.params.items() if name != "tag"}
    return str(NameAddr(address.uri, address.display, {**params, "tag": tag} if tag else params))
