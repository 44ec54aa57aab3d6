# SPDX-License-Identifier: Apache-2.0
"""What only a process of its own can show: fork, exit, the environment, and what an import leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlcore import _core


def program(source, **environment):
    """Run Python source in a process of its own, warnings as errors."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], cwd=Path(__file__).parent, env=os.environ | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # What AddressSanitizer says of every fiber.
    lines = [line for line in result.stderr.splitlines(True) if "ASan doesn't fully support makecontext" not in line]
    result.stderr = "".join(lines)
    return result


FORK = """
import os, signal
from test_runtime import heavy
from dlcore import _core
core = _core.Backend()
recording, memory = heavy(core)
run = lambda: core.run([([recording], 3)], memory.bases, 2)
run()
want = [base.copy() for base in memory.bases]
for generation in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # no orphan is left to hang
        run()
        equal = all((a == b).all() for a, b in zip(memory.bases, want))
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(30)
            run()
            os._exit(0)
        os._exit(0 if equal and os.waitpid(grandchild, 0)[1] == 0 else 1)
    run()
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""

EXIT = """
import threading
from test_runtime import heavy, ticking, counters
from dlcore import _core
core = _core.Backend()
recording, memory = heavy(core)
core.run([([recording], 3)], memory.bases, 2)
busy, bases = {job}
before = busy.calls
for _ in range({threads}):
    threading.Thread(target=core.run, args=([([busy], 10**12)], bases, 2), daemon=True).start()
while {threads} and busy.calls == before:
    pass
print("done")
"""


def test_fork_after_use_works_in_child_and_parent():
    # Python 3.12 and later warn of a fork beside threads; that it works is what is shown here.
    result = program("import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("threads", "job"),
    [(0, "recording, memory.bases"), (1, "ticking(core), [counters()]"), (1, "recording, memory.bases")],
    ids=["idle", "busy_alone", "busy_with_a_team"],
)
def test_interpreter_exit_does_not_hang(threads, job):
    result = program(EXIT.format(threads=threads, job=job))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


DAEMON = """
import threading, numpy as np, dlcore as dl
net = dl.Net([dl.Linear(8, 8), dl.ReLU(), dl.Linear(8, 3)])
x, y, began = np.ones((64, 8), np.float32), np.zeros(64, int), threading.Event()
def work():
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(), 64)
    while True:
        {call}
        began.set()
threading.Thread(target=work, daemon=True).start()
began.wait()
print("done")
"""


@pytest.mark.parametrize("call", ["net.predict(x)", "step(x, y)", "net.fit(x, y, epochs=1, verbose=0)"])
def test_interpreter_exit_beside_a_daemon_is_no_crash(call):
    result = program(DAEMON.format(call=call))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


SHOW = "from dlcore import _core; info = _core.cpu_info(); print(info['chosen'], info['forced'], _core.Backend().isa)"


@pytest.mark.parametrize("isa", _core.cpu_info()["available"])
def test_environment_forces_an_instruction_set(isa):
    assert program(SHOW, DLCORE_CPU=isa).stdout == f"{isa} {isa} {isa}\n"
    assert program(SHOW, DLCORE_CPU="").stdout.startswith(f"{_core.cpu_info()['available'][-1]} None ")


@pytest.mark.parametrize("name", ["amx", "AVX2", "sse9"])
def test_environment_with_an_unavailable_set_is_an_error_when_used(name):
    result = program("from dlcore import _core; print(_core.cpu_info()['chosen']); _core.Backend()", DLCORE_CPU=name)
    assert result.stdout == "None\n"
    names = ", ".join(_core.cpu_info()["available"])
    assert f"ValueError: DLCORE_CPU: expected one of {names} (available here), got '{name}'" in result.stderr


def test_environment_is_read_once():
    source = "from dlcore import _core; import os; os.environ['DLCORE_CPU'] = 'sse9'; print(_core.Backend().isa)"
    assert program(source, DLCORE_CPU="baseline").stdout == "baseline\n"


def test_threads_default_to_the_cores_of_this_process():
    source = "from dlcore import _core; print(_core.default_threads())"
    assert program(source, OMP_NUM_THREADS="3").stdout == "3\n"
    assert 1 <= int(program(source, OMP_NUM_THREADS="").stdout) <= len(os.sched_getaffinity(0))
    pinned = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + source
    assert program(pinned, OMP_NUM_THREADS="").stdout == "1\n"


def test_import_changes_no_signal_handler_and_no_float_mode():
    source = """
import signal
before = {s: signal.getsignal(s) for s in signal.valid_signals()}
from dlcore import _core
core = _core.Backend()
assert {s: signal.getsignal(s) for s in signal.valid_signals()} == before
import numpy as np
assert np.float32(1e-40) * np.float32(0.5) > 0  # no flush to zero
"""
    result = program(source)
    assert (result.returncode, result.stderr) == (0, "")


DEVICE_FORK = """
import os, signal, threading, warnings
import numpy as np
import dlcore as dl
warnings.simplefilter("ignore", DeprecationWarning)
x = np.ones((8, 4), np.float32)
nets = [dl.Net([dl.Linear(4, 3)], seed=0, device=d) for d in ("DEVICE", "cpu")]
trained = dl.Net([dl.Linear(4, 3)], device="DEVICE")
step = trained.compile(dl.MeanSquaredError(), dl.SGD(0.1), 8)
step(x, np.ones((8, 3)))
want = [net.predict(x) for net in nets]
busy = True
def work():
    while busy:
        trained.predict(x)
worker = threading.Thread(target=work)
worker.start()
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        calls = [
            lambda: nets[0].predict(x), lambda: nets[0].to("cpu"), lambda: nets[0].evaluate(x, np.zeros(8, int)),
            lambda: nets[1].to("DEVICE"), lambda: step(x, np.ones((8, 3))), lambda: trained.parameters,
            lambda: dl.Net([dl.Linear(4, 3)], device="DEVICE:1"), lambda: nets[0].fit(x, np.zeros(8, int), verbose=0),
        ]
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                text = f"began to use the GPU, got its fork {os.getpid()}; start processes by multiprocessing's spawn"
                assert text in str(error), error
            else:
                raise AssertionError("expected an error")
        assert (nets[1].predict(x) == want[1]).all()
        del nets, trained, step, calls, call
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
busy = False
worker.join()
assert (nets[0].predict(x) == want[0]).all()
print("done")
"""


def test_fork_of_a_process_that_used_a_device_says_so(other_device):
    result = program(DEVICE_FORK.replace("DEVICE", other_device))
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
