"""Settings of a service, from its command line, the environment and a TOML file; needs pydantic."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

CONFIG = "VISAVIS_CONFIG"
OF_CLIENTS = ("VISAVIS_TOKEN", "VISAVIS_TLS_CA")
"""Variables that clients of the library read: no settings of a service, and no mistake beside one."""


class SettingsError(Exception):
    """A setting that cannot be used; the message is one sentence that names it."""


class ServiceSettings(BaseModel):
    """Base of a service's settings. A field with ``repr=False`` is secret: no message shows its value."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


M = TypeVar("M", bound=ServiceSettings)


def from_json(value: object) -> object:
    """A ``BeforeValidator``: JSON text stands for its value. Raises ``ValueError``."""
    return json.loads(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class SettingsSource:
    """Where a service's settings come from; what stands further left wins: options, environment, file."""

    program: str
    about: str
    prefix: str
    """Of the environment variables: ``VISAVIS_``."""
    table: str
    """Of the TOML file."""
    other_prefix: str = ""
    """Variables of another service that begin with our prefix too."""

    def load(self, model: type[M], argv: Sequence[str], environ: Mapping[str, str] | None = None) -> M:
        """The settings. Raises :class:`SettingsError`; ``--help`` and unknown options end the process."""
        env = os.environ if environ is None else environ
        options = vars(self._parser(model).parse_args(argv))
        values: dict[str, Any] = {}
        config = options.pop("config") or env.get(CONFIG)
        if config:
            values.update(self._from_toml(model, Path(config)))
        names = {self.prefix + name.upper(): name for name in model.model_fields}
        for variable in env:
            if variable.startswith(self.prefix) and variable not in names and not self._elsewhere(variable):
                raise SettingsError(
                    f"{variable} is not a setting: python -m {self.program} --help lists them all."
                )
        values.update({name: env[variable] for variable, name in names.items() if variable in env})
        values.update(options)
        try:
            return model(**values)
        except ValidationError as error:
            raise SettingsError(self._sentence(model, error, values)) from None

    def _elsewhere(self, variable: str) -> bool:
        return variable in (CONFIG, *OF_CLIENTS) or bool(
            self.other_prefix and variable.startswith(self.other_prefix)
        )

    def _parser(self, model: type[M]) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.program}",
            description=self.about,
            epilog=f"Each setting may also come from the environment or from the [{self.table}] table of a TOML "
            f"file (--config or {CONFIG}). The command line wins, then the environment.",
        )
        parser.add_argument("--config", metavar="FILE", help=f"TOML file ({CONFIG})")
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            shown = "nothing" if default in (None, "", [], {}) else default
            flag: dict[str, Any] = {"nargs": "?", "const": "true"} if default is False else {}
            parser.add_argument(
                "--" + name.replace("_", "-"),
                dest=name,
                metavar="VALUE",
                **flag,
                default=argparse.SUPPRESS,
                help=f"{field.description} ({self.prefix}{name.upper()}; default {shown})".replace("%", "%%"),
            )
        return parser

    def _from_toml(self, model: type[M], path: Path) -> dict[str, Any]:
        try:
            table = tomllib.loads(path.read_text()).get(self.table, {})
        except OSError as error:
            raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None
        unknown = sorted(set(table) - set(model.model_fields))
        if unknown:
            raise SettingsError(
                f"{path}: [{self.table}] {unknown[0]} is not a setting: --help lists them all."
            )
        return dict(table)

    def _sentence(self, model: type[M], error: ValidationError, values: dict[str, Any]) -> str:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        if not first["loc"]:
            return f"These settings cannot be used together: {reason}."
        name = str(first["loc"][0])
        shown = repr(values.get(name)) if model.model_fields[name].repr else "used"
        return f"Setting {name} ({self.prefix}{name.upper()}) cannot be {shown}: {reason[0].lower()}{reason[1:]}."
