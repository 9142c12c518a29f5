"""Checks of a request before anyone looks at what it asks (RFC 3261 section 8.2), and what we support."""

from __future__ import annotations

from orchestrator.sip.agent.refusals import Refusal
from orchestrator.sip.message.bodies import INFO_TYPES, SDP, is_optional
from orchestrator.sip.message.grammar import GrammarError
from orchestrator.sip.message.message import Request, parse_request_uri

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY"
METHODS = frozenset(ALLOW.split(", "))
SUPPORTED = ("timer", "100rel")
ACCEPT = f"{SDP}, multipart/mixed"
CAPABILITIES = (
    ("Allow", ALLOW),
    ("Supported", ", ".join(SUPPORTED)),
    ("Accept", ACCEPT),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "en"),
)


def check_request(request: Request) -> Refusal | None:
    """The refusals that need no state: 405, 416, 400, 420, 415, 406, 489 in the order of section 8.2."""
    if request.method in ("SUBSCRIBE", "PUBLISH"):
        return Refusal(489)
    if request.method not in METHODS:
        return Refusal(405, headers=(("Allow", ALLOW),))
    try:
        uri = parse_request_uri(request.uri)
        if request.method not in ("ACK", "CANCEL"):
            unknown = [value for value in request.headers.values("Require") if value.lower() not in SUPPORTED]
            if unknown:
                return Refusal(420, headers=(("Unsupported", ", ".join(unknown)),))
        contact = request.contact() if request.method in ("INVITE", "UPDATE") else None
    except GrammarError as error:
        return Refusal(400, f"Bad Request ({error})")
    if not uri.is_sip and uri.scheme != "tel":
        return Refusal(416)
    if contact is not None and not contact.uri.is_sip:
        return Refusal(400, "Bad Request (Contact is not a SIP URI)")
    return _check_body(request) or _check_accept(request)


def _check_body(request: Request) -> Refusal | None:
    if not request.body.strip():
        return None
    kind = request.content_type()
    encoding = (request.headers.get("Content-Encoding") or "identity").strip().lower()
    accept = ", ".join(INFO_TYPES) if request.method == "INFO" else ACCEPT
    if encoding != "identity":
        return Refusal(415, headers=(("Accept", accept), ("Accept-Encoding", "identity")))
    if request.method in ("INVITE", "UPDATE", "PRACK", "ACK"):
        known = kind == SDP or kind.startswith("multipart/")
    elif request.method == "INFO":
        known = kind in INFO_TYPES
    else:
        return None
    return None if known or is_optional(request) else Refusal(415, headers=(("Accept", accept),))


def _check_accept(request: Request) -> Refusal | None:
    """An INVITE whose sender does not take SDP cannot be answered (RFC 4475 section 3.3.14)."""
    if request.method != "INVITE" or "Accept" not in request.headers:
        return None
    accepted = request.headers.tokens("Accept")
    if not accepted or any(kind in ("*/*", "application/*", SDP) for kind in accepted):
        return None
    return Refusal(406)
