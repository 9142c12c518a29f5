"""The command line: see :mod:`examples.portrait`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from examples import portrait
from examples.portrait import sheets
from examples.portrait.camera import photograph
from examples.portrait.people import PEOPLE
from examples.portrait.scene import build


def main() -> None:
    """Render one person; the defaults are those of the default portrait."""
    parser = argparse.ArgumentParser(prog="python -m examples.portrait", description=portrait.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--person", choices=sorted(PEOPLE), default="lumi")
    parser.add_argument("--size", type=int, default=704, help="pixels a side")
    parser.add_argument("--samples", type=int, default=28, help="light paths for each pixel")
    parser.add_argument("--turn", type=float, default=0, help="degrees that the head is turned")
    parser.add_argument("--sheets", action="store_true", help="mouths, lids and depth, into the folder OUT")
    options = parser.parse_args()
    person = PEOPLE[options.person]
    figure = build(options.folder, person, np.random.default_rng(7))
    if options.sheets:
        sheets.render(figure, person, options.out.resolve(), options.size, options.samples)
        return
    photograph(options.out.resolve(), options.size, options.samples, options.turn, person.drawn)


if __name__ == "__main__":
    main()
