# SPDX-License-Identifier: Apache-2.0
"""Training steps of dlcore beside those of other libraries, on the nets W1 to W8.

Every contestant has its own process and starts from the same weights. First the check: without dropout, the losses of
5 steps must agree with torch eager's. Then the timing: rounds that take turns, ratios to torch eager round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import sys
from pathlib import Path

from contestants import REFERENCE, REGISTRY, TRUTH
from dlcore.backend import num_threads
from dlcore.bench import report, timing
from dlcore.cli.output import Output
from dlcore.cli.parser import JSON, THREADS, Option, Parser, UsageError
from dlcore.cli.values import boolean, integer, text
from dlcore.errors import suggest
from process import Failed, Process
from workloads import WORKLOADS, find

STEPS = 5
TOLERANCE = 5e-4  # of a loss after a few steps in float32
ROUND_SECONDS = 0.3
RESULTS = Path(__file__).with_name("results")
EXAMPLES = """examples:
  python bench/peers.py --workloads W1,W2 --threads 2
  python bench/peers.py check                             answers only, no timing
  python bench/peers.py --contestants dlcore,numpy --rounds 15 --json
  python bench/peers.py --save                            JSON and figure into bench/results/"""


def arguments(argv: list[str]) -> dict:
    """Options with their defaults.

    Raises
    ------
    UsageError
    """
    timed = [name for name in REGISTRY if name != TRUTH]
    options = [
        Option("workloads", text, "of W1 to W8 (default all)", "W1,W2"),
        Option("contestants", text, f"of {', '.join(timed)} (default all; {REFERENCE} always runs)", "A,B"),
        Option("rounds", integer(1, 1000), "rounds in which the contestants take turns (default 7)", "N"),
        THREADS, JSON, Option("save", boolean, "keep the JSON, and a figure by matplotlib, in bench/results/"),
    ]  # fmt: skip
    parser = Parser("", __doc__.splitlines()[0], "", {"what": "check: answers only"}, options)
    parser.prog, parser.usage, parser.epilog = "peers.py", "peers.py [check] [options]", EXAMPLES
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)
    given = {"rounds": 7, "threads": num_threads(), "json": False, "save": False, "what": "all", **parser.given(argv)}
    if given["what"] not in ("all", "check"):
        raise UsageError(f"expected check or options, got {given['what']!r}")
    given["workloads"] = [
        _known("--workloads", find(name), name, WORKLOADS) for name in _names(given.get("workloads"), WORKLOADS)
    ]
    asked = _names(given.get("contestants"), timed)
    for name in asked:
        _known("--contestants", name if name in timed else None, name, timed)
    given["contestants"] = list(dict.fromkeys([*asked, REFERENCE]))
    return given


def _names(given: str | None, default) -> list[str]:
    return given.split(",") if given else list(default)


def _known(option: str, found, name: str, names):
    if found is None:
        raise UsageError(f"expected {option} of {', '.join(names)}, got {name!r}{suggest(name, names)}")
    return found


def losses(name: str, workload, threads: int) -> list[float] | None:
    """Of the steps of the check; None where the contestant does not know this kind of net."""
    with Process(name, threads) as process:
        if not process.ask("supports", workload=workload.name)["ok"]:
            return None
        return process.ask("check", workload=workload.name, steps=STEPS)["losses"]


def difference(got: list[float], want: list[float]) -> float:
    """The worst relative difference; infinite where a loss is not a number."""
    worst = max(abs(g - w) / max(abs(w), 1e-3) for g, w in zip(got, want, strict=True))
    return worst if worst == worst else float("inf")


def check(workload, options: dict, say) -> tuple[dict[str, float], list[str]]:
    """Errors of the contestants whose losses agree, and what is wrong with the others."""
    errors, wrong = {}, []
    truth, reference = (losses(name, workload, options["threads"]) for name in (TRUTH, REFERENCE))
    for name in options["contestants"]:
        try:
            got = reference if name == REFERENCE else losses(name, workload, options["threads"])
        except Failed as error:
            wrong.append(str(error))
            continue
        if got is None:
            say(f"check {workload.name} {name}: not a net that it trains")
            continue
        off, error = difference(got, reference), difference(got, truth)
        ok = off <= TOLERANCE
        say(f"check {workload.name} {name}: {'ok' if ok else 'WRONG'}, losses off {off:.1e}, from float64 {error:.1e}")
        if ok:
            errors[name] = error
        else:
            wrong.append(f"{workload.name} {name}: expected losses within {TOLERANCE:g} of {REFERENCE}, got {off:.3g}")
    return errors, wrong


def time_steps(workload, errors: dict[str, float], options: dict) -> list[dict]:
    """A row for each contestant that has passed the check."""
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, options["threads"])) for name in errors}
        about = {name: p.ask("hello") for name, p in processes.items()}
        for p in processes.values():
            p.ask("setup", workload=workload.name)
        rounds = {name: lambda p=p: p.ask("round", seconds=ROUND_SECONDS)["seconds"] for name, p in processes.items()}
        seconds = timing.interleave(rounds, options["rounds"])
    rows = []
    for name, taken in seconds.items():
        result = timing.summary(taken)
        rows.append({
            "row": workload.name, "contestant": name, "version": about[name]["version"],
            "precision": about[name]["precision"], "ms": 1e3 * result.seconds, "spread": result.spread,
            "ratio": timing.ratio(seconds[REFERENCE], taken), "error": errors[name],
        })  # fmt: skip
    return sorted(rows, key=lambda r: r["ms"])


def table(rows: list[dict]) -> str:
    """Lines of one workload."""
    lines = [f"{'row':<22}{'contestant':<16}{'precision':<11}{'ms':>11}{'spread %':>10}{'ratio x':>9}{'error':>10}"]
    for r in rows:
        lines.append(
            f"{r['row']:<22}{r['contestant']:<16}{r['precision']:<11}{r['ms']:>11.4f}{100 * r['spread']:>10.1f}"
            f"{r['ratio']:>9.2f}{r['error']:>10.1e}"
        )
    return "\n".join(lines)


def keep(values: dict, say) -> None:
    """Write the results, named by date and machine, and their figure."""
    machine = values["machine"]
    slug = re.sub(r"[^a-z0-9]+", "-", machine["processor"].lower()).strip("-")
    name = f"{values['date']}_{slug}_{machine['instruction_set']}_{machine['threads']}t_peers.json"
    path = RESULTS / name
    path.write_text(json.dumps(values, indent=1) + "\n")
    say(f"written: {path}")
    try:
        import figure
    except ImportError:
        say("no figure: matplotlib is not installed")
    else:
        say(f"written: {figure.draw(path)}")


def run(argv: list[str]) -> int:
    """Check, time, report; 1 where a contestant failed or was wrong."""
    options = arguments(argv)
    output = Output(options["json"])
    rows, wrong = [], []
    for workload in options["workloads"]:
        errors, failures = check(workload, options, output.say)
        wrong += failures
        if options["what"] == "all" and REFERENCE in errors:
            rows += time_steps(workload, errors, options)
            output.say(table([r for r in rows if r["row"] == workload.name]))
    values = {
        "date": datetime.date.today().isoformat(), "machine": report.machine(options["threads"]),
        "versions": {**report.versions(), **{r["contestant"]: r["version"] for r in rows}},
        "command": report.command("python bench/peers.py", argv), "rows": rows, "wrong": wrong,
    }  # fmt: skip
    if options["save"] and rows:
        keep(values, output.say)
    if options["json"]:
        output.result(values, "")
    for failure in wrong:
        print(f"peers.py: {failure}", file=sys.stderr)
    return 1 if wrong else 0


def main(argv: list[str]) -> int:
    """Errors in one line: 2 for wrong use, 1 for what fails; a traceback with --debug."""
    try:
        return run(argv)
    except (UsageError, Failed, KeyboardInterrupt) as error:
        if "--debug" in argv:
            raise
        status = 2 if isinstance(error, UsageError) else 1 if isinstance(error, Failed) else 130
        message = str(error) or "interrupted"
    print(f"peers.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
