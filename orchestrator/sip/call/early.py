"""The early dialog of a call of ours: PRACK (RFC 3262) and what the callee asks before it answers (RFC 3311)."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.sip.agent.client import Client
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.call.invite import Attempt
from orchestrator.sip.message.message import Response
from orchestrator.sip.transaction.server import ServerTransaction

_ANSWERED_EARLY = ("UPDATE", "INFO", "OPTIONS")


class EarlyDialog:
    """The early dialog, one at a time.

    The fork that was heard first, then that whose reliable answer was taken last.
    """

    def __init__(self, client: Client, next_seq: Callable[[], int]) -> None:
        self._client = client
        self._next_seq = next_seq
        self._rseq: dict[str, int] = {}
        self.dialog: Dialog | None = None
        self.agreed = False
        self.updated = False

    def follow(self, attempt: Attempt, response: Response, *, answered: bool) -> Dialog | None:
        """A provisional response, confirmed where it is reliable; the dialog where it is a new one.

        `answered` says that its session description was taken as the answer to our offer.
        """
        tag = response.to.tag
        if tag is None:
            return None
        reliable = "RSeq" in response.headers and "100rel" in response.headers.tokens("Require")
        if reliable:
            self._confirm(attempt, response, tag)
        if self.dialog is not None and self.dialog.remote_tag == tag:
            self.agreed |= reliable and answered
            return None
        if self.dialog is not None and not (reliable and answered):
            return None
        self.agreed, self.updated = reliable and answered, False
        self.dialog = Dialog.from_response(attempt.request, response, attempt.flow)
        return self.dialog

    def confirmed_by(self, dialog: Dialog) -> bool:
        """Whether this dialog, made by a 2xx, is the early one; it takes over the peer's sequence number."""
        if self.dialog is None or self.dialog.remote_tag != dialog.remote_tag:
            return False
        dialog.remote_seq = self.dialog.remote_seq
        return True

    def forget(self) -> None:
        """The attempt has failed, and its dialogs with it."""
        self.dialog, self.agreed, self.updated = None, False, False

    @staticmethod
    def takes(transaction: ServerTransaction) -> bool:
        """Whether a callee may ask for this before it has answered (a BYE it may not send, section 15)."""
        return transaction.request.method in _ANSWERED_EARLY

    def _confirm(self, attempt: Attempt, response: Response, tag: str) -> None:
        """RFC 3262 section 4: each reliable provisional response once, in order."""
        number = response.headers.get("RSeq") or ""
        if not number.isdigit() or len(number) > 10 or int(number) <= self._rseq.get(tag, 0):
            return
        self._rseq[tag] = int(number)
        dialog = Dialog.from_response(attempt.request, response, attempt.flow)
        prack = dialog.request("PRACK", seq=self._next_seq())
        prack.headers.add("RAck", f"{number} {attempt.request.cseq[0]} INVITE")
        self._client.send_aside(dialog, prack)
