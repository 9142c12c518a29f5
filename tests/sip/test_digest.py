"""Digest computation against the examples of the RFCs, and headers as they come."""

from __future__ import annotations

import pytest

from orchestrator.sip.agent.digest import (
    answer_challenge,
    digest_response,
    format_credentials,
    parse_digest,
)

RFC_7616 = (
    'realm="http-auth@example.org", qop="auth, auth-int", '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC_2617 = (
    'realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)


@pytest.mark.parametrize(
    ("challenge", "password", "cnonce", "response"),
    [
        # RFC 7616 section 3.9.1, both challenges; RFC 2617 section 3.5; RFC 2069 section 2.4 with its erratum 749.
        (f"Digest {RFC_7616}, algorithm=SHA-256", "Circle of Life",
         "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
         "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        (f"Digest {RFC_7616}, algorithm=MD5", "Circle of Life",
         "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "8ca523f5e9506fed4657c9700eebdbec"),
        (f"Digest {RFC_2617}", "Circle Of Life", "0a4f113b", "6629fae49393a05397450978507c4ef1"),
        ('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"', "CircleOfLife", "",
         "1949323746fe6a43ef61f9606e7febea"),
    ],
)  # fmt: skip
def test_the_examples_of_the_rfcs(challenge: str, password: str, cnonce: str, response: str) -> None:
    parsed = parse_digest(challenge)
    assert parsed is not None
    credentials = answer_challenge(
        parsed, "Mufasa", password, "GET", "/dir/index.html", count=1, cnonce=cnonce
    )
    assert credentials is not None and credentials["response"] == response
    received = parse_digest(format_credentials(credentials))
    assert received == credentials and credentials.get("opaque") == parsed.get("opaque")
    assert digest_response(received, password, "GET") == response
    assert digest_response(received, password, "POST") != response
    assert digest_response(received, password + "!", "GET") != response


def test_what_is_a_token_stands_without_quotes() -> None:
    challenge = parse_digest('Digest realm="r", nonce="n", qop="auth"')
    assert challenge is not None
    credentials = answer_challenge(challenge, "a", "b", "INVITE", "sip:x@y", count=17, cnonce="c")
    assert credentials is not None
    text = format_credentials(credentials)
    assert 'algorithm=MD5, qop=auth, nc=00000011, cnonce="c"' in text and 'uri="sip:x@y"' in text


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r", qop="auth"', 'Digest realm="r", nonce=""', 'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256', 'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="\udcff"',
    ],
)  # fmt: skip
def test_challenges_that_cannot_be_answered(challenge: str) -> None:
    parsed = parse_digest(challenge)
    assert parsed is not None
    assert answer_challenge(parsed, "a", "b", "INVITE", "sip:x@y", count=1, cnonce="c") is None


def test_headers_as_they_come() -> None:
    assert parse_digest("Basic dXNlcjpwYXNz") is None and parse_digest("") is None
    assert parse_digest("Digest") == {} and parse_digest('digest a="unterminated') == {"a": ""}
    assert parse_digest('DIGEST Realm = "a, b=\\"c\\"" ,nonce=n1,, stale=TRUE') == {
        "realm": 'a, b=\\"c\\"',
        "nonce": "n1",
        "stale": "TRUE",
    }
    assert parse_digest("Digest " + "a" * 16_000) == {}
    assert parse_digest("Digest " + 'a="\\' * 4000) == {"a": "\\a="}
