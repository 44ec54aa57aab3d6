# SPDX-License-Identifier: Apache-2.0
"""dlcore beside other libraries: training steps and predictions of the nets W1 to W8, and single ops.

Every contestant has its own process and starts from the same values. First the check: losses of 5 steps without dropout,
outputs, or results of an op must agree with float64. Then the timing: rounds that take turns, ratios round by round to
torch_eager, or to torch_bf16 among those that compute in bf16. Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from pathlib import Path

import compare
import leads
from contestants import ISAS, ON, REFERENCES, UNHELD, timed
from dlcore import _core
from dlcore.backend import num_threads
from dlcore.bench import gpu, peak, report, timing
from dlcore.bench.kernels import KERNELS, names
from dlcore.cli.output import Output
from dlcore.cli.parser import JSON, THREADS, Option, Parser, UsageError
from dlcore.cli.values import boolean, integer, text
from dlcore.errors import suggest
from process import TIME_BOX, Failed, Pool
from workloads import find, on

ACTIONS = ("train", "infer", "ops", "check")
OPS = (
    "product_512x512x512", "product_1024x1024x1024", "product_2048x2048x2048", "linear_relu_128x512x784",
    "linear_relu_4096x1024x1024", "batch_norm_relu_dropout_4096x1024", "dropout_4096x4096", "cross_entropy_4096x1000",
    "layer_norm_4096x1024", "layer_norm_65536x64", "adamw_10M", "adamw_200x50k",
)  # fmt: skip
GPU_OPS = ("adamw_1M", *(name for name, kernel in KERNELS.items() if kernel.gpu))
RESULTS = Path(__file__).with_name("results")
EXAMPLES = """examples:
  python bench/peers.py --workloads W1,W2 --threads 2      training steps
  python bench/peers.py infer --workloads W7               predictions of 1, 64 and 4096 rows
  python bench/peers.py ops --workloads layer_norm,adamw   single ops whose names begin like this
  python bench/peers.py check                              answers of steps, predictions and ops; no timing
  python bench/peers.py --contestants dlcore,numpy --rounds 15 --json
  python bench/peers.py ops --device cuda                  on a GPU, its own nets and ops too
  python bench/peers.py --isa avx2                         every library held to that instruction set
  python bench/peers.py --out FILE --limit 120             writes after every row, goes on where it stopped
  python bench/peers.py --save                             JSON and figures into bench/results/"""


def arguments(argv: list[str]) -> dict:
    """Options with their defaults.

    Raises
    ------
    UsageError
    """
    reference = REFERENCES["float32"]
    options = [
        Option("workloads", text, "of W1 to W8 (on a GPU G1 to G3 too), or of the ops (default all)", "W1,W2"),
        Option("contestants", text, f"of {', '.join(timed('cpu'))} (default all; {reference} always runs)", "A,B"),
        Option("device", text, f"cpu (default), or cuda: there {', '.join(timed('cuda'))}", "NAME"),
        Option("isa", text, f"of {', '.join(ISAS)}: the instruction set that all are held to (default the best)", "NAME"),
        Option("rounds", integer(1, 1000), "rounds in which the contestants take turns (default 7)", "N"),
        Option("limit", integer(1, 3600), f"seconds of one answer of a contestant (default {TIME_BOX})", "SECONDS"),
        Option("out", text, "JSON after every net or op; those that it holds are not measured again", "FILE"),
        THREADS, JSON, Option("save", boolean, "keep the JSON, and figures by matplotlib, in bench/results/"),
    ]  # fmt: skip
    parser = Parser("", __doc__.splitlines()[0], "", {"action": ", ".join(ACTIONS) + " (default train)"}, options)
    parser.prog, parser.usage, parser.epilog = "peers.py", "peers.py [ACTION] [options]", EXAMPLES
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)
    given = {
        "rounds": 7, "threads": num_threads(), "limit": TIME_BOX, "isa": "", "out": None, "json": False, "save": False,
        "action": "train", **parser.given(argv),
    }  # fmt: skip
    _known("action", given["action"] if given["action"] in ACTIONS else None, given["action"], ACTIONS)
    device = given.setdefault("device", "cpu")
    _known("--device", ON.get(device) is not None or None, device, ON)
    present = [isa for isa in ISAS if isa in _core.cpu_info()["available"]]
    _known("--isa", given["isa"] in ("", *present) or None, given["isa"], present)
    given["items"] = items(given["action"], given.get("workloads"), device)
    asked = _names(given.get("contestants"), timed(device))
    for name in asked:
        _known("--contestants", name if name in timed(device) else None, name, timed(device))
    given["contestants"] = list(dict.fromkeys([*asked, reference]))
    return given


def items(action: str, workloads: str | None, device: str = "cpu") -> list[tuple[str, str]]:
    """(action, net or op) of what is asked for; ``check`` is of all actions."""
    nets, ops = [a for a in ("train", "infer") if action in (a, "check")], action in ("ops", "check")
    known, found = [*(on(device) if nets else ()), *(OPS if ops else ()), *(GPU_OPS if ops and device != "cpu" else ())], []
    for name in _names(workloads, known):
        net = find(name) if nets else None
        net = net if net and net.name in on(device) else None
        kernels = [k for k in names(device) if ops and k.startswith(name)]
        _known("--workloads", net or kernels or None, name, known)
        found += [(a, net.name) for a in nets if net] + [("ops", k) for k in kernels]
    return list(dict.fromkeys(found))


def _names(given: str | None, default) -> list[str]:
    return given.split(",") if given else list(default)


def _known(option: str, found, name: str, names):
    if found is None:
        raise UsageError(f"expected {option} of {', '.join(names)}, got {name!r}{suggest(name, names)}")
    return found


def table(rows: list[dict]) -> str:
    """Lines of one row of the comparison."""
    best = {ours: leads.fastest(rows, precision) for precision, ours in leads.OURS.items()}
    said = [
        f"{ours} is {r['lead']['times']:.2f}x {r['contestant']} ({r['lead']['low']:.2f} to {r['lead']['high']:.2f})"
        for ours, r in best.items() if r
    ]  # fmt: skip
    lines = [
        ": ".join([rows[0]["row"], *said[:1]]),
        *(f"  {more}" for more in said[1:]),
        f"  {'contestant':<20}{'precision':>10}{'ms':>12}{'spread %':>10}{'ratio x':>9}{'error':>9}{'floors':>8}{'MB':>7}",
    ]
    for r in rows:
        ratio = f"{r['ratio']:.2f}" if r["ratio"] else "-"
        over = f"{r['ms'] / r['floor_ms']:.1f}" if r["floor_ms"] else "-"
        lines.append(
            f"  {r['contestant']:<20}{r['precision']:>10}{r['ms']:>12.4f}{100 * r['spread']:>10.1f}{ratio:>9}"
            f"{r['error']:>9.0e}{over:>8}{r['rss_mb']:>7.0f}"
        )
    return "\n".join([*lines, *(f"  {r['contestant']}: {r['how']}" for r in rows if r["how"])])


def file_name(values: dict, what: str) -> str:
    """Of a result: date, machine and what was measured."""
    machine = values["machine"]
    where = machine.get("gpu", {}).get("name") or machine["processor"]
    slug = re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")
    kernels = machine.get("device", machine["instruction_set"])
    return f"{values['date']}_{slug}_{kernels}_{machine['threads']}t_{what}.json"


def keep(values: dict, say) -> None:
    """Write the results, named by date and machine, and their figures."""
    path = RESULTS / file_name(values, f"peers_{values['action']}")
    write(values, path)
    say(f"written: {path}")
    try:
        import figure
    except ImportError:
        say("no figure: matplotlib is not installed")
    else:
        for drawn in figure.draw(path):
            say(f"written: {drawn}")


def write(values: dict, path: Path) -> None:
    """The results in a file that is whole at any time."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(values, indent=1) + "\n")
    new.replace(path)


def before(path: Path, values: dict) -> dict:
    """What an earlier run of the same action and versions has left in a file."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    same = all(kept.get(key) == values[key] for key in ("action", "versions", "isa"))
    return {key: kept[key] for key in ("rows", "watch", "wrong", "done")} if same else {}


def run(argv: list[str]) -> int:
    """Check, time, report; 1 where a contestant failed or was wrong."""
    options = arguments(argv)
    pool = Pool(options["threads"], options["device"], options["limit"], options["isa"])
    try:
        return compared(pool, options, argv)
    finally:
        pool.close()


def compared(pool: Pool, options: dict, argv: list[str]) -> int:
    """What `run` does, in the processes of a pool."""
    output, threads, action, device = Output(options["json"]), options["threads"], options["action"], options["device"]
    out = options["out"] and Path(options["out"])
    about, wrong = compare.present(pool, options["contestants"], output.say)
    if not about:
        raise Failed("; ".join([f"expected a contestant on {device}, got none", *wrong]))
    for name in UNHELD if options["isa"] else ():
        if name in about:
            about[name]["how"] = "the best instruction set, as it cannot be held to another"
    machine = measured(threads, device, options["isa"]) if action != "check" else None
    held = {"instruction_set": options["isa"]} if options["isa"] else {}
    values = {
        "action": action, "date": datetime.date.today().isoformat(), "isa": options["isa"],
        "machine": report.machine(threads, machine and machine.peak, device) | held,
        "versions": report.versions() | {name: known["version"] for name, known in about.items()},
        "command": report.command("python bench/peers.py", argv), "rows": [], "watch": {}, "wrong": wrong, "done": [],
    }  # fmt: skip
    if out:
        values |= before(out, values)
    for what, item in options["items"]:
        if [what, item] in values["done"]:
            continue
        one(pool, (what, item), about, machine, options["rounds"], values, output.say)
        values["done"].append([what, item])
        if out:
            write(values, out)
    if options["save"] and values["rows"]:
        keep(values, output.say)
    if options["json"]:
        output.result(values, "")
    for failure in values["wrong"]:
        print(f"peers.py: {failure}", file=sys.stderr)
    return 1 if values["wrong"] else 0


def measured(threads: int, device: str, isa: str) -> compare.Machine:
    """The machine's limits, and what tells in every round what it gives; a GPU is not shared."""
    if device == "cuda":
        return compare.Machine(gpu.measure(), timing.Watch(lambda: 1.0), clocks=gpu.Clocks())
    watch = timing.Watch(lambda: peak.rate(threads, isa))
    return compare.Machine(peak.measure(threads, isa), watch, lambda mix, live: peak.Streams(threads, mix, live, isa))


def one(pool: Pool, item: tuple[str, str], about: dict, machine, rounds: int, values: dict, say) -> None:
    """Check a net or an op, time it, and add what is found to the results."""
    errors, failures = compare.check(pool, *item, about, say)
    values["wrong"] += failures
    if not machine or not errors:
        return
    rows, watched, failures = compare.measure(pool, *item, about, errors, machine, rounds)
    values["rows"] += rows
    values["watch"] |= watched
    values["wrong"] += failures
    for row, watch in watched.items():
        say(table([r for r in rows if r["row"] == row]))
        share = min(watch["gflops"]) * 1e9 / machine.watch.best
        if share < timing.SHARE:
            say(f"  not alone: {100 * share:.0f} % of the best multiply-add rate beside the worst round")


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
