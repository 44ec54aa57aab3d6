# SPDX-License-Identifier: Apache-2.0
"""Installed size, import time and memory after import of dlcore beside its peers: the README's first table.

    python bench/footprint.py [--json] [PACKAGE ...]

Packages that are not installed are left out. Times are medians over fresh interpreters, NumPy's own import taken off.
"""

import argparse
import json
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

RUNS = 7
PROBE = """
import resource, sys, time
import numpy
start = time.perf_counter()
__import__(sys.argv[1])
{use}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
FIRST_NET = "import dlcore; dlcore.Net([dlcore.Linear(2, 2)]).predict([[0.0, 1.0]])"
MODULES = {"scikit-learn": "sklearn"}


def installed_bytes(package: str) -> int:
    """Bytes on disk of a distribution's files; those of an editable install are counted where they lie."""
    files = [Path(f.locate()) for f in metadata.files(package) or []]
    if package == "dlcore":
        import dlcore

        files += [f for f in Path(dlcore.__file__).parent.rglob("*") if "__pycache__" not in f.parts]
    return sum(f.stat().st_size for f in set(files) if f.is_file())


def probe(package: str, use: str = "") -> tuple[float, float]:
    """(milliseconds beyond NumPy's import, MB resident), medians."""
    command = [sys.executable, "-c", PROBE.format(use=use), MODULES.get(package, package)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(RUNS)]
    return statistics.median(float(r[0]) for r in runs) * 1e3, statistics.median(float(r[1]) for r in runs) / 1024


def rows(packages: list[str]) -> list[dict]:
    """One row a package that is installed."""
    found = []
    for package in packages:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        ms, rss = probe(package)
        row = {"package": package, "version": version, "installed_mb": installed_bytes(package) / 1e6}
        found.append(row | {"import_ms": ms, "rss_mb": rss})
        if package == "dlcore":
            found[-1]["import_and_first_net_ms"] = probe(package, FIRST_NET)[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="*", default=["dlcore", "scikit-learn", "torch", "jax", "onnxruntime"])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    found = rows(args.packages)
    if args.json:
        print(json.dumps({"python": sys.version.split()[0], "runs": RUNS, "rows": found}))
        return
    print(f"{'package':14s} {'version':>14s} {'installed MB':>13s} {'import ms':>10s} {'RSS MB':>7s}")
    for r in found:
        numbers = f"{r['installed_mb']:13.1f} {r['import_ms']:10.1f} {r['rss_mb']:7.0f}"
        print(f"{r['package']:14s} {r['version']:>14s} {numbers}")
        if "import_and_first_net_ms" in r:
            print(f"{'':14s} import and first prediction of a net: {r['import_and_first_net_ms']:.1f} ms")


if __name__ == "__main__":
    main()
