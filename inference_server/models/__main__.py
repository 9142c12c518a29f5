"""``visavis-models``: fetch, check and try out the weights of the MuseTalk engine."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference_server.models.check import check
from inference_server.models.download import HUB, DownloadFailed, Hub
from inference_server.models.manifest import FILES, ModelFile, required


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 when all is well."""
    options = _arguments().parse_args(argv)
    try:
        return int(options.run(options))
    except (DownloadFailed, OSError) as error:
        print(f"visavis-models: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visavis-models", description=__doc__)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir", type=Path, default=Path("models"), help="folder of the weights (musetalk_dir)"
    )
    common.add_argument("--version", choices=("v15", "v1"), default="v15", help="version of MuseTalk")
    common.add_argument("--decoder", choices=("sd-vae", "taesd"), default="sd-vae")
    common.add_argument(
        "--parser",
        action="store_true",
        help="the face parser too (its weights: non-commercial research only)",
    )
    common.add_argument(
        "--accept",
        action="append",
        default=os.environ.get("VISAVIS_MODELS_ACCEPT", "").split(),
        metavar="SHA256",
        help="digest of weights of which none is pinned",
    )
    download = commands.add_parser("download", parents=[common], help="fetch what is missing")
    download.add_argument(
        "--hub", default=os.environ.get("HF_ENDPOINT", HUB), help="the hub or a mirror of it"
    )
    download.set_defaults(run=_download)
    listing = commands.add_parser("check", parents=[common], help="say what is missing or damaged")
    listing.add_argument("--sha256", action="store_true", help="read every file whole and compare its digest")
    listing.set_defaults(run=_check)
    verify = commands.add_parser("verify", parents=[common], help="render a clip and judge it")
    verify.add_argument("--image", type=Path, required=True, help="a portrait, or a short video")
    verify.add_argument("--wav", type=Path, required=True, help="speech, 16 bit mono or stereo")
    verify.add_argument(
        "--out", type=Path, default=Path("verify"), help="folder for the clip and the picture"
    )
    verify.add_argument("--device", default="auto")
    verify.add_argument("--seconds", type=float, default=20.0)
    verify.set_defaults(run=_verify)
    return parser


def _files(options: argparse.Namespace) -> list[ModelFile]:
    return list(required(options.version, options.decoder, options.parser))


def hub_token(environ: Mapping[str, str]) -> str:
    """As the hub's own tools have it: ``HF_TOKEN``, or what is in the file ``HF_TOKEN_PATH`` where there is one."""
    path = Path(environ.get("HF_TOKEN_PATH") or os.devnull)
    return environ.get("HF_TOKEN", "") or (path.read_text().strip() if path.exists() else "")


def _download(options: argparse.Namespace) -> int:
    if options.parser:
        print("note: the face parser's weights are for non-commercial research; masks do not need them")
    files = _files(options)
    if options.decoder == "sd-vae":
        files += FILES["taesd"]  # 10 MB: the decoder can be changed later without fetching anything
    progress = _Progress()
    with Hub(options.hub, token=hub_token(os.environ), accept=options.accept) as hub:
        fetched = hub.fetch(options.dir, files, progress)
    progress.end()
    print(f"{len(fetched)} files fetched into {options.dir}, {len(files) - len(fetched)} were there")
    return _check(options)


class _Progress:
    """One line per file, rewritten on a terminal, else only when a file begins and ends."""

    def __init__(self) -> None:
        self._last = ""
        self._at = 0.0

    def __call__(self, file: ModelFile, here: int, total: int) -> None:
        done = total and here >= total
        new = file.path != self._last
        if new:
            self.end()
        if not (new or done) and (not sys.stdout.isatty() or time.monotonic() - self._at < 0.2):
            return
        self._last, self._at = file.path, time.monotonic()
        share = f"{100 * here / total:5.1f} %" if total else "      "
        end = "" if sys.stdout.isatty() else "\n"
        print(f"\r{share} {here / 1e6:8.1f} MB  {file.path}", end=end, flush=True)

    def end(self) -> None:
        """Close the line."""
        if self._last and sys.stdout.isatty():
            print()
        self._last = ""


def _check(options: argparse.Namespace) -> int:
    found = check(options.dir, _files(options), deep=getattr(options, "sha256", False), accept=options.accept)
    for one in found:
        print(one.line())
    bad = sum(one.state != "ok" for one in found)
    if bad:
        print(
            f"{bad} of {len(found)} cannot be used; `visavis-models download --dir {options.dir}` fetches them"
        )
    else:
        print(f"all {len(found)} files are there")
    return int(bad > 0)


def _verify(options: argparse.Namespace) -> int:
    from inference_server.models.verify import verify  # with torch, which the other commands do without

    return verify(options)


if __name__ == "__main__":
    raise SystemExit(main())
