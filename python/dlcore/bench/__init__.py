# SPDX-License-Identifier: Apache-2.0
"""The benchmark: ``dlcore bench`` and bench/run.py are two doors to `main`.

Its table is an ablation of one program: NumPy, unfused unrecorded, unfused recorded, fused recorded.
"""

from __future__ import annotations

import argparse

GROUPS = ("ops", "step", "infer")
ABOUT = (
    "Time ops, training steps and predictions: NumPy, and dlcore with the planner's fuse and record off and on. Answers first."
)
EXAMPLES = """examples:
  dlcore bench                           every case, a few minutes
  dlcore bench step --rounds 15          training steps of W1 to W8
  dlcore bench infer                     predictions of 1, 64 and 4096 rows
  dlcore bench W1,layer_norm             the cases whose names begin like this
  dlcore bench ops --case adam_1M --json one JSON object: machine, versions, command, rows
  dlcore bench step --device cuda        on a GPU: what fusion and recording bring there
  dlcore bench ops --device cuda --gemm wgmma --precision bf16
  dlcore bench --list                    the names of the cases"""


def main(argv: list[str]) -> int:
    """Run the cases that the arguments name; 0 when every answer was right.

    Raises
    ------
    dlcore.cli.parser.UsageError
        Wrong arguments; the command line turns it into one line and exit status 2.
    WrongAnswer
        Before the case is timed.
    """
    from ..cli.output import Output

    options = _parser().given(argv)
    selected = _selected(options.get("cases", "all"), options.get("case"), options.get("device", "cpu"))
    output = Output(options.get("json", False))
    if options.get("list"):
        names = [case.name for case in selected]
        output.result({"cases": names}, "\n".join(names))
        return 0
    return _run(argv, selected, options, output)


def _parser():
    from ..backend import GEMMS, PRECISIONS
    from ..cli.parser import JSON, THREADS, Option, Parser
    from ..cli.values import boolean, device, integer, text

    def bench_device(value):  # the emulator too, for tests
        return value if value == "emulated" else device(value)

    options = [
        Option("case", text, "only the cases of the group whose names begin like this", "NAME"),
        Option("rounds", integer(1, 1000), "rounds in which the variants take turns (default 7)", "N"),
        Option("device", bench_device, "cpu (default) or cuda: there without NumPy, against a copy's bandwidth", "NAME"),
        Option("gemm", text, f"whose products, of {', '.join(GEMMS)} (default auto)", "NAME"),
        Option("precision", text, f"of products, of {', '.join(PRECISIONS)} (default float32)", "NAME"),
        THREADS, JSON, Option("list", boolean, "print the names of the cases, and time nothing"),
    ]  # fmt: skip
    parser = Parser("bench", ABOUT, "", {"cases": "ops, step, infer, all (default), or beginnings of names"}, options)
    parser.usage, parser.epilog = "dlcore bench [CASES] [options]", EXAMPLES
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)
    return parser


def _selected(cases: str, only: str | None, device: str) -> list:
    """The cases of a group, or those of them whose names begin like one of some texts."""
    from ..cli.parser import UsageError
    from ..errors import suggest
    from .cases import all_cases

    pool = [c for c in all_cases(device) if c.group == cases or cases not in GROUPS]
    wanted = [text for text in (None if cases in (*GROUPS, "all") else cases, only) if text]
    selected: list = []
    for name in ",".join(wanted).split(","):
        found = [c for c in pool if c.name.startswith(name)]
        if not found:
            names = [c.name for c in pool]
            raise UsageError(
                f"expected {', '.join(GROUPS)}, all or the beginning of a case's name, got {name!r}"
                f"{suggest(name, [*GROUPS, 'all', *names]) or '; see dlcore bench --list'}"
            )
        selected += [c for c in found if c not in selected]
    return selected


def _products(device: str, options) -> tuple[dict[str, str], int]:
    """Gemm and precision, where they are asked for, and the bf16 terms that a large product sums."""
    from .. import backend as backends
    from ..arguments import one_of
    from ..cli.parser import UsageError

    asked, backend = {name: options[name] for name in ("gemm", "precision") if name in options}, backends.get(device=device)
    gemm, precision = asked.get("gemm", "auto"), asked.get("precision", "float32")
    try:
        one_of("--precision", precision, backends.PRECISIONS)
        backends.check_gemm("--gemm", backend, gemm)
        backends.check_precision("--precision", backend, precision, gemm)
    except ValueError as error:
        said = str(error)
        raise UsageError(said[said.index("expected") :]) from None
    return asked, backends.terms(backend, precision, 2**20, 2**20, 2**20, gemm)


def _run(argv, selected, options, output) -> int:
    from ..backend import num_threads, select_device
    from . import gpu, peak, published, report
    from .measure import measure

    threads, device = options.get("threads") or num_threads(), select_device(options.get("device", "cpu"))
    asked, terms = _products(device, options)
    limits = gpu.measure(terms) if device.startswith("cuda") else peak.measure(threads)
    about = report.machine(threads, limits, device) | asked
    for line in report.header(about):
        output.say(line)
    done = []
    for case in selected:
        for measured in measure(case, threads, options.get("rounds", 7), limits, device, **asked):
            published.mark(measured.rows, about, terms)
            done.append(measured)
            output.say("\n".join(report.block(measured)))
    if device != "cpu":
        about["gpu_after"] = gpu.state()
    if options.get("json"):
        values = {
            "machine": about, "versions": report.versions(), "command": report.command("dlcore bench", argv),
            "rows": [row for m in done for row in m.rows],
            "gains": {m.row: {name: g and vars(g) for name, g in m.gains.items()} for m in done},
        }  # fmt: skip
        output.result(values, "")
    return 0
