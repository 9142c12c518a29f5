"""ICE-lite (RFC 8445 sections 2.5 and 7.3): answers connectivity checks and never sends any. Sans-IO."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from orchestrator.rtp import stun
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.stun import StunError, StunMessage

MOST_CHECKED = 16
"""Addresses of a peer that are remembered; the oldest is forgotten first."""
_UNDERSTOOD = frozenset({stun.USERNAME, stun.XOR_MAPPED_ADDRESS, stun.PRIORITY, stun.USE_CANDIDATE})


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """A user fragment and its password (RFC 8839 section 5.4)."""

    ufrag: str
    password: str = field(repr=False)

    @classmethod
    def fresh(cls) -> IceCredentials:
        """48 and 144 random bits; at least 24 and 128 are asked for."""
        return cls(secrets.token_hex(6), secrets.token_hex(18))


def addressed_ufrag(data: bytes) -> str:
    """Our user fragment that a check names, unauthenticated; "" for what is no check."""
    try:
        message = stun.parse(data)
    except StunError:
        return ""
    user = message.value(stun.USERNAME) if message.kind == stun.BINDING_REQUEST else None
    return (user or b"").partition(b":")[0].decode("ascii", "replace")


class IceLite:
    """One component of one peer. What does not authenticate is not answered: nothing leaves for it.

    ``selected`` is where media go: the nominated address, before that the first that was checked. ``heard`` is when
    the last authentic check came, which is the peer's consent as well (RFC 7675).
    """

    def __init__(self) -> None:
        self.selected: Address | None = None
        self.heard = float("-inf")
        self.checks = 0
        self.refused = 0
        self._sessions: list[tuple[IceCredentials, str]] = []
        self._checked: dict[Address, None] = {}

    def agree(self, own: IceCredentials, remote_ufrag: str) -> None:
        """Take what was negotiated; after a restart the credentials before it hold on, since checks may be under
        way (RFC 8445 section 9)."""
        if (own, remote_ufrag) not in self._sessions:
            self._sessions = [(own, remote_ufrag), *self._sessions[:1]]

    def is_checked(self, source: Address) -> bool:
        """Whether an authentic check came from there."""
        return source in self._checked

    def receive(self, data: bytes, source: Address, now: float) -> bytes | None:
        """The answer to a check; None for what is not one of the peer's."""
        try:
            request = stun.parse(data)
        except StunError:
            self.refused += 1
            return None
        own = self._authenticated(request)
        if own is None:
            self.refused += 1
            return None
        key = own.password.encode()
        unknown = [
            name for name, _ in request.attributes
            if name < stun.COMPREHENSION_OPTIONAL and name not in _UNDERSTOOD
        ]  # fmt: skip
        if unknown:
            names = b"".join(name.to_bytes(2) for name in unknown)
            failure = [(stun.ERROR_CODE, stun.error_code(420, "Unknown Attribute"))]
            failure.append((stun.UNKNOWN_ATTRIBUTES, names))
            return stun.build(stun.BINDING_ERROR, request.transaction, failure, key)
        if request.value(stun.ICE_CONTROLLED) is not None:  # a lite agent never controls (section 6.1.1)
            failure = [(stun.ERROR_CODE, stun.error_code(487, "Role Conflict"))]
            return stun.build(stun.BINDING_ERROR, request.transaction, failure, key)
        self._take(source, now, nominated=request.value(stun.USE_CANDIDATE) is not None)
        mapped = [(stun.XOR_MAPPED_ADDRESS, stun.xor_address(source, request.transaction))]
        return stun.build(stun.BINDING_SUCCESS, request.transaction, mapped, key)

    def _authenticated(self, request: StunMessage) -> IceCredentials | None:
        if request.kind != stun.BINDING_REQUEST:
            return None
        user = request.value(stun.USERNAME)
        for own, remote_ufrag in self._sessions:
            if user == f"{own.ufrag}:{remote_ufrag}".encode():
                return own if request.is_authentic(own.password.encode()) else None
        return None

    def _take(self, source: Address, now: float, *, nominated: bool) -> None:
        self.checks += 1
        self.heard = now
        self._checked.pop(source, None)
        if len(self._checked) >= MOST_CHECKED:
            del self._checked[next(iter(self._checked))]
        self._checked[source] = None
        if nominated or self.selected is None:
            self.selected = source
