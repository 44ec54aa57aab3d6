# SPDX-License-Identifier: Apache-2.0
"""Has dlcore become slower? ``python bench/regress.py FRESH.json [BASE.json]`` compares two results of bench/peers.py.

What is compared is dlcore's lead over the fastest float32 peer that both runs have, never a time: machines differ from
day to day. A lead may shrink by the spread of the rounds of both runs. Without BASE it is the newest result in
bench/results/ of the same action, processor or GPU, instruction set and threads. Exit status 1 on a regression.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from leads import by_row, fastest, peers

RESULTS = Path(__file__).with_name("results")
NOISE = 0.05  # a lead that shrinks by less has not changed
JUDGED = 0.5  # rounds that spread over more than this say nothing
SAME = ("processor", "instruction_set", "threads", "gpu")


class Incomparable(ValueError):
    """Results that say nothing about each other."""


def part(machine: dict, key: str):
    """What of a machine must be the same; of a GPU its name, "" without one."""
    return machine.get("gpu", {}).get("name", "") if key == "gpu" else machine[key]


def compare(fresh: dict, base: dict) -> tuple[list[str], list[str]]:
    """Regressions and rows that are too noisy to judge, a line each.

    Raises
    ------
    Incomparable
        Another action or machine, or no row with a peer in common.
    """
    for key, new, old in [
        ("action", fresh["action"], base["action"]),
        *((k, part(fresh["machine"], k), part(base["machine"], k)) for k in SAME),
    ]:
        if new != old:
            raise Incomparable(f"expected results of the same {key}, got {new!r} and {old!r}")
    now, then = by_row(fresh["rows"]), by_row(base["rows"])
    worse, unclear = [], []
    common = {row: _names(now[row]) & _names(then.get(row, [])) for row in now}
    if not any(common.values()):
        raise Incomparable("expected rows with a float32 peer in both results, got none")
    for row, both in common.items():
        if not both:
            continue
        new, old = (fastest([r for r in found[row] if r["contestant"] in both])["lead"] for found in (now, then))
        spread = sum((lead["high"] - lead["low"]) / lead["times"] for lead in (new, old))
        said = f"{row}: {new['times']:.2f}x the fastest float32 peer, was {old['times']:.2f}x"
        if spread > JUDGED:
            unclear.append(f"{said}, but the rounds spread over {100 * spread:.0f} %")
        elif new["times"] < old["times"] * (1 - max(NOISE, spread)):
            worse.append(f"{said}; {100 * max(NOISE, spread):.0f} % less would be noise")
    return worse, unclear


def _names(rows: list[dict]) -> set[str]:
    return {r["contestant"] for r in peers(rows)}


def newest(fresh: dict, folder: Path = RESULTS) -> dict:
    """The newest result in the folder that a fresh one can be compared with.

    Raises
    ------
    Incomparable
        There is none.
    """
    wanted = (fresh["action"], *(part(fresh["machine"], k) for k in SAME))
    kept = [json.loads(path.read_text()) for path in sorted(folder.glob("*_peers_*.json"))]
    same = [v for v in kept if (v["action"], *(part(v["machine"], k) for k in SAME)) == wanted and v != fresh]
    if not same:
        action, processor, isa, threads, gpu = wanted
        raise Incomparable(
            f"expected a result of {action}, {gpu or processor}, {isa}, {threads} threads in {folder.name}, got none"
        )
    return max(same, key=lambda v: v["date"])


def main(argv: list[str]) -> int:
    """0: no regression; 1: one, with its reason; 2: nothing to compare."""
    if len(argv) not in (1, 2) or argv[0].startswith("-"):
        print(__doc__, file=sys.stdout if "--help" in argv else sys.stderr)
        return 0 if "--help" in argv else 2
    try:
        fresh, *given = (json.loads(Path(name).read_text()) for name in argv)
        worse, unclear = compare(fresh, given[0] if given else newest(fresh))
    except (Incomparable, OSError, KeyError, json.JSONDecodeError) as error:
        print(f"regress.py: {error}", file=sys.stderr)
        return 2
    for line in unclear:
        print(f"not judged: {line}")
    print("regression: " + "; ".join(worse) if worse else "no regression")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
