"""Settings of calls: how many, how long, whom they may reach."""

from __future__ import annotations

import phonenumbers
from pydantic import Field, field_validator

from orchestrator.calls.dial_plan import DialRule
from orchestrator.config.kinds import CommaList
from visavis.service.settings import ServiceSettings


class CallSettings(ServiceSettings):
    """How many calls, how long, whom they may reach."""

    dial_plan: CommaList = Field(
        [],
        description="whom calls, transfers and redirects may reach: allow +49*, deny *@pbx.example; the first rule "
        "that matches decides; where none does, all but premium numbers",
    )
    dial_region: str = Field(
        "", description="country of numbers that are dialled without one (DE, US); empty: they need a rule"
    )
    dial_per_minute: int = Field(
        60, ge=0, description="calls, transfers and redirects in a minute; 0: no limit"
    )
    dial_at_once: int = Field(0, ge=0, description="calls of ours under way at once; 0: no limit")
    dial_minutes: int = Field(
        1440, ge=0, description="minutes of calls to numbers within 24 hours; 0: no limit"
    )
    max_calls: int = Field(100, ge=1, description="calls at once; the next is answered 503")
    max_call_s: float = Field(14_400.0, ge=0, description="ends a call that has lasted so long; 0: never")
    drain_s: float = Field(
        0.0,
        ge=0,
        description="seconds that calls under way get to end by themselves after SIGTERM; 0: hung up at once",
    )

    @field_validator("dial_plan")
    @classmethod
    def _check_dial_plan(cls, value: list[str]) -> list[str]:
        for rule in value:
            DialRule.parse(rule)
        return value

    @field_validator("dial_region")
    @classmethod
    def _check_dial_region(cls, value: str) -> str:
        if value and value.upper() not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"'{value}' is no country: write it as DE or US")
        return value.upper()
