# SPDX-License-Identifier: Apache-2.0
"""One instruction set of this processor beside another: every kernel and whole nets, from the same inputs, bit by bit.

Sums along a row (layer norm, softmax, losses, gradient norms) have as many parts as a vector has lanes, so what follows from
them may differ by rounding; beside baseline, which has no fused multiply-add, everything may. All else has equal bits, or is
wrong.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys

from comparisons import backend, compared, comparisons
from dlcore import _core
from dlcore.bench import report

EXAMPLES = """examples:
  python bench/isa.py                              the best set here beside avx2
  python bench/isa.py avx512 --only update,train   a part
  python bench/isa.py amx --against standin        the matrix unit beside its stand-in, which has to be built"""
REALS = ("float32", "float64")


def line(row: dict) -> str:
    said = f"{row['differ']} of {row['elements']} elements differ" if row["differ"] else "same bits"
    return f"{row['real']} {row['name']}: {said}" + (f"  WRONG: {row['wrong']}" if row["wrong"] else "")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Options, names of sets that run here."""
    here = _core.cpu_info()["available"]
    parser = argparse.ArgumentParser(
        prog="isa.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("isa", nargs="?", choices=here, default=here[-1], help=f"of {', '.join(here)} (default {here[-1]})")
    parser.add_argument("--against", choices=here, help="another of them (default avx2, beside avx2 baseline)")
    parser.add_argument("--real", choices=REALS, help="default both")
    parser.add_argument("--only", default="", help="comparisons, by the beginnings of their names: A,B")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args(argv)
    options.against = options.against or ("avx2" if options.isa != "avx2" and "avx2" in here else "baseline")
    return options


def main(argv: list[str]) -> int:
    """1 where something is wrong."""
    options, rows = arguments(argv), []
    for real in [options.real] if options.real else REALS:
        core, other = (backend(name, real) for name in (options.isa, options.against))
        for comparison in comparisons(core, other):
            if comparison.name.startswith(tuple(options.only.split(","))):
                rows.append(compared(comparison, core, other))
                print(line(rows[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
    if not rows:
        print(f"isa.py: expected --only of names that comparisons begin with, got {options.only!r}", file=sys.stderr)
        return 2
    bad, rounded = ([r["name"] for r in rows if r[key]] for key in ("wrong", "differ"))
    summary = f"{options.isa} beside {options.against}: {len(rows)} comparisons, {len(rounded)} differ, {len(bad)} wrong"
    print(summary, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        values = {
            "date": datetime.date.today().isoformat(), "machine": report.machine(1), "versions": report.versions(),
            "command": report.command("python bench/isa.py", argv), "isa": options.isa, "against": options.against,
            "rows": rows,
        }  # fmt: skip
        print(json.dumps(values))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
