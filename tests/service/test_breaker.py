"""A service that fails is left alone for a while."""

from __future__ import annotations

from visavis.service.breaker import CircuitBreaker, ServiceState


def test_it_rests_longer_each_time_and_begins_anew_once_it_has_answered() -> None:
    now, told = [0.0], list[ServiceState]()
    breaker = CircuitBreaker("stt", "one", lambda: now[0], told.append)
    assert breaker.usable and breaker.state.state == "unused"
    rests = []
    for _ in range(8):
        breaker.fault("it answered 500")
        breaker.fault("so did another call's request")  # and the rest is no longer for it
        began = now[0]
        while not breaker.usable:
            now[0] += 1.0
        rests.append(now[0] - began)
    assert rests == [5, 10, 20, 40, 80, 120, 120, 120]
    breaker.good()
    breaker.good()
    assert breaker.state == ServiceState("stt", "one", "works", 16, "")
    breaker.fault("it answered 500")
    assert not breaker.usable and told[-1].state == "rests"
    now[0] += 5.0
    assert breaker.usable
    assert len(told) == 18
