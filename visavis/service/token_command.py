"""``visavis-token``: prints a token of a service on this machine, and gives out and takes back others."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from visavis.service.security import API_SCOPES, FLEET_SCOPES, TokenLine, fleet_file, new_token, read_token

_FILES = {
    "api": ("orchestrator", "VISAVIS_", "api_tokens", API_SCOPES),
    "fleet": ("inference", "VISAVIS_INFERENCE_", "tokens", FLEET_SCOPES),
}


def token_file(which: str) -> Path:
    """Where the services of this machine look for it, by the same settings."""
    table, prefix, name, _ = _FILES[which]
    if given := _setting(table, prefix, name):
        return Path(given).expanduser()
    if which == "fleet":
        given = _setting("orchestrator", "VISAVIS_", "avatar_tokens")
        return Path(given).expanduser() if given else fleet_file()
    return (
        Path(_setting(table, prefix, "data_dir") or "~/.local/share/visavis").expanduser() / "tokens" / "api"
    )


def _setting(table: str, prefix: str, name: str) -> str:
    if given := os.environ.get(prefix + name.upper()):
        return given
    config = os.environ.get("VISAVIS_CONFIG")
    values = tomllib.loads(Path(config).read_text()).get(table, {}) if config else {}
    return str(values.get(name, ""))


def add(path: Path, scopes: str, name: str) -> str:
    """A new token at the end of the file; returns it."""
    line = TokenLine(new_token(), scopes, name)
    _write(path, [*_lines(path), str(line)])
    return line.token


def rotate(path: Path) -> str:
    """A new token in front, for what the first one was for, which stays valid; returns it."""
    line = _first(path)._replace(token=new_token())
    _write(path, [str(line), *_lines(path)])
    return line.token


def retire(path: Path) -> str:
    """Take back what the first token has replaced, the others of its name; returns the first."""
    first = _first(path)
    kept = []
    for line in _lines(path):
        found = TokenLine.of(line)
        if found is None or found.token == first.token or found.name != first.name:
            kept.append(line)
    _write(path, kept)
    return first.token


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _first(path: Path) -> TokenLine:
    found = next((found for line in _lines(path) if (found := TokenLine.of(line))), None)
    if found is None:
        raise OSError(f"there is no token in {path}")
    return found


def _write(path: Path, lines: list[str]) -> None:
    """In one step, so that nobody reads half of it; with the mode and the owner that it had."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write("".join(line + "\n" for line in lines))
        shutil.copymode(path, draft)
        about = path.stat()
        if (about.st_uid, about.st_gid) != (os.getuid(), os.getgid()):
            os.chown(draft, about.st_uid, about.st_gid)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1, with one sentence, where there is no token that this user may read."""
    parser = argparse.ArgumentParser(
        prog="visavis-token",
        description="A token of a service on this machine: prints the first one of its file.",
    )
    parser.add_argument(
        "which",
        nargs="?",
        choices=_FILES,
        default="api",
        help="the API's, or that of inference servers (fleet)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--file", action="store_true", help="print where the tokens lie")
    what.add_argument(
        "--add", metavar="SCOPES", help="make one more, with these scopes (calls:read,calls:speak)"
    )
    what.add_argument(
        "--rotate", action="store_true", help="make a new one in place of the first, valid beside it"
    )
    what.add_argument("--retire", action="store_true", help="take back those that the first one has replaced")
    parser.add_argument("--name", default="", help="of the token that is added, for the log")
    options = parser.parse_args(argv)
    path = token_file(options.which)
    unknown = set((options.add or "").split(",")) - {"", *_FILES[options.which][3]}
    if unknown:
        parser.error(f"no scope is named {sorted(unknown)[0]}: take {', '.join(_FILES[options.which][3])}")
    try:
        if options.file:
            print(path)
        elif options.add:
            print(add(path, options.add, options.name))
        elif options.rotate:
            print(rotate(path))
        elif options.retire:
            print(retire(path))
        elif token := read_token(path):
            print(token.reveal())
        else:
            print(
                f"There is no token in {path} that you may read: the service makes it when it starts.",
                file=sys.stderr,
            )
            return 1
    except OSError as error:
        print(f"{path} cannot be used: {error.strerror or error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
