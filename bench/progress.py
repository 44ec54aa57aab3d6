# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest for bench/gpu.py: writes what becomes of each test as it happens, and runs only what has not ended.

A line of the file is `{"test": name, "state": "running"}`, later the same with passed, failed or skipped, the seconds and
why; the last is `{"left": n}`, the tests that there was no time for. A test that hangs ends the process; what a failed one
has left of the device is looked at, as a kernel that went wrong lets all that follow fail.
"""

import faulthandler
import json
import os
import time
from pathlib import Path

import pytest

WHY = 2000  # characters of a failure


def pytest_addoption(parser):
    parser.addoption("--progress", type=Path, help="file of the tests that have ended, written on")
    parser.addoption("--until", type=float, default=1e9, help="seconds after which no test begins")
    parser.addoption("--hang", type=float, default=60, help="seconds of one test after which the process ends")
    parser.addoption("--probe", default="", help="device that must answer after a failed test")


def pytest_configure(config):
    config.pluginmanager.register(Progress(config.option), "dlcore-progress")


def ended(path):
    """What became of each test, and how many are left; None where the process has not come to its end."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    left = lines[-1].get("left") if lines else None
    return {line.pop("test"): line for line in lines if "test" in line}, left


class Progress:
    def __init__(self, option):
        self.option, self.begin, self.known = option, time.monotonic(), ended(option.progress)[0]
        self.file = option.progress.open("a")
        self.stderr = os.fdopen(os.dup(2), "w")  # which pytest does not capture
        self.left, self.now = set(), None

    def write(self, **line):
        print(json.dumps(line), file=self.file, flush=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        for item in items if config.option.collectonly else ():
            self.write(test=item.nodeid, state="collected")
        done = [item for item in items if item.nodeid in self.known]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in self.known]
        self.left = {item.nodeid for item in items}

    def pytest_collectreport(self, report):
        if report.failed:
            self.write(test=report.nodeid, state="failed", seconds=0, why=report.longreprtext[-WHY:])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        self.now = {"test": item.nodeid, "state": "passed", "seconds": 0}
        self.write(test=item.nodeid, state="running")
        faulthandler.dump_traceback_later(self.option.hang, exit=True, file=self.stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.write(**self.now)
            self.left.discard(item.nodeid)
            if self.now["state"] == "failed" and self.option.probe:
                self.probe(item.session)
            if time.monotonic() - self.begin > self.option.until:
                item.session.shouldstop = "no time is left"

    def pytest_runtest_logreport(self, report):
        self.now["seconds"] = round(self.now["seconds"] + report.duration, 2)
        if report.failed:
            self.now |= {"state": "failed", "why": report.longreprtext[-WHY:]}
        elif report.skipped and self.now["state"] != "failed":
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.now |= {"state": "skipped", "why": reason.removeprefix("Skipped: ")}

    def probe(self, session):
        from dlcore import _core

        try:
            _core.Backend(self.option.probe).allocate(64).read(bytearray(64))
        except (RuntimeError, ValueError) as error:
            session.shouldstop = f"the device has gone: {error}"

    def pytest_sessionfinish(self):
        self.write(left=len(self.left))
