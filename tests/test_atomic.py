# SPDX-License-Identifier: Apache-2.0
"""Paths and atomic writing: strange files are refused, and no error, kill or full disk costs the old file."""

import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from dlcore import io
from dlcore.errors import FileFormatError
from dlcore.io import load_arrays, save_arrays

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.npz"
    save_arrays(path, {"x": np.arange(10.0)})
    return path


@pytest.mark.parametrize("path", [None, 3, b"x.npz", ["x"], np.ones(2)])
@pytest.mark.parametrize("call", [load_arrays, lambda path: save_arrays(path, {})], ids=["load", "save"])
def test_paths_of_other_types_are_refused(path, call):
    with pytest.raises(TypeError, match="expected a path"):
        call(path)


@pytest.mark.parametrize("path", ["", "a\0b"])
@pytest.mark.parametrize("call", [load_arrays, lambda path: save_arrays(path, {})], ids=["load", "save"])
def test_impossible_paths_are_refused(path, call):
    with pytest.raises(FileFormatError, match="expected the path of a file"):
        call(path)


def test_load_of_a_missing_file_says_so(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^load_arrays\('.*'\): expected a readable file, got '.*': No such file"
    ) as caught:
        load_arrays(tmp_path / "absent.npz")
    assert caught.value.errno == 2


@POSIX
def test_load_refuses_folders_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(FileFormatError, match=r"expected a file, got a (folder|pipe)"):
            load_arrays(path)
        with pytest.raises(FileFormatError, match="expected the path of a file, got a folder, pipe or device"):
            save_arrays(path, {})
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@POSIX
def test_loops_of_links_are_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for call in (load_arrays, lambda path: save_arrays(path, {})):
        with pytest.raises(OSError, match="expected"):
            call(tmp_path / "a")


# --- atomic writing


def test_save_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"^save_arrays: expected to write .*, got No such file or directory; nothing was changed$",
    ):
        save_arrays(tmp_path / "absent" / "a.npz", {})


@POSIX
def test_save_keeps_the_mode_and_respects_the_umask(saved):
    new = stat.S_IMODE(saved.stat().st_mode)
    umask = os.umask(0o022)
    os.umask(umask)
    assert new == 0o666 & ~umask
    saved.chmod(0o640)
    save_arrays(saved, {"x": np.ones(1)})
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640


@POSIX
def test_save_writes_through_links(saved, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.npz").symlink_to(os.path.join("..", "net.npz"))
    save_arrays(folder / "link.npz", {"x": np.ones(1)})
    assert (folder / "link.npz").is_symlink()
    assert os.listdir(folder) == ["link.npz"]
    assert list(load_arrays(saved)) == ["x"]
    (folder / "new.npz").symlink_to(tmp_path / "made.npz")
    save_arrays(folder / "new.npz", {"y": np.ones(1)})
    assert list(load_arrays(tmp_path / "made.npz")) == ["y"]


def interrupted(path):
    with io.atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_interrupted_write_leaves_the_old_file(saved, tmp_path):
    before = saved.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        interrupted(saved)
    assert saved.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.npz"]


def test_array_mapped_from_the_file_itself_can_be_saved(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10.0))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    save_arrays(tmp_path / "a.npy", {"x": mapped})
    assert load_arrays(tmp_path / "a.npy")["x"].tolist() == list(range(10))


@POSIX
def test_save_removes_temporary_files_of_dead_writers_only(saved, tmp_path):
    (tmp_path / ".dlcore-0123.tmp").write_bytes(b"abandoned")
    (tmp_path / "other.tmp").write_bytes(b"somebody's")
    with io.atomic_write(tmp_path / "slow") as file:
        save_arrays(saved, {})
        assert len(os.listdir(tmp_path)) == 3  # net.npz, other.tmp and the slow writer's
        file.write(b"done")
    assert sorted(os.listdir(tmp_path)) == ["net.npz", "other.tmp", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"done"


def test_threads_that_save_to_one_path_leave_one_whole_file(tmp_path):
    path, failures = tmp_path / "a.npz", []
    save_arrays(path, {"x": np.zeros(1000)})

    def work(value):
        try:
            for _ in range(20):
                save_arrays(path, {"x": np.full(1000, value)})
                assert len(set(load_arrays(path)["x"])) == 1
        except BaseException as error:  # a thread's own error would be lost
            failures.append(error)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["a.npz"]


def run_python(code, *arguments, timeout=60):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


# Root may read and write everything, so the child becomes nobody in a folder of its own.
PERMISSIONS = """
import os, sys, tempfile, numpy as np
from dlcore.io import load_arrays, save_arrays
folder = tempfile.mkdtemp()
path = os.path.join(folder, "a.npz")
save_arrays(path, {"x": np.ones(3)})
load_arrays(path)
if os.geteuid() == 0:
    os.chown(folder, 65534, 65534)
    os.chown(path, 65534, 65534)
    os.setuid(65534)

def refused(call, *arguments):
    try:
        call(*arguments)
    except PermissionError as error:
        print(error.errno, error)

os.chmod(path, 0o400)
refused(save_arrays, path, {})
assert list(load_arrays(path)) == ["x"]
os.chmod(path, 0)
refused(load_arrays, path)
os.chmod(folder, 0o500)
refused(save_arrays, os.path.join(folder, "new.npz"), {})
os.chmod(folder, 0o700)
assert os.listdir(folder) == ["a.npz"]
os.unlink(path)
os.rmdir(folder)
"""


@POSIX
def test_permissions_are_respected():
    done = run_python(PERMISSIONS)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("13 save_arrays: expected to write ")
    assert second.startswith("13 load_arrays(")
    assert third.startswith("13 save_arrays: expected to write ")


FULL_DISK = """
import resource, sys, numpy as np
from dlcore.io import load_arrays, save_arrays
path = sys.argv[1]
save_arrays(path, {"x": np.zeros(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    save_arrays(path, {"x": np.ones(10_000)})
except OSError as error:
    print(error.errno, error)
assert load_arrays(path)["x"].tolist() == [0.0] * 1000
save_arrays(path, {"x": np.ones(1000)})
assert load_arrays(path)["x"].tolist() == [1.0] * 1000
"""


@POSIX
def test_full_disk_keeps_the_old_file(tmp_path):
    done = run_python(FULL_DISK, tmp_path / "a.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("27 save_arrays: expected to write ")
    assert done.stdout.endswith("nothing was changed\n")
    assert os.listdir(tmp_path) == ["a.npz"]


# In a child for each point of a save: one kill -9 before the n-th call that touches the file system.
KILLED = """
import os, signal, sys, numpy as np
from dlcore.io import atomic, load_arrays, save_arrays
path, points = sys.argv[1], 0

class Fuse:
    def __init__(self, calls):
        self.calls = calls
    def wrap(self, function):
        def wrapped(*arguments, **options):
            self.calls -= 1
            if self.calls < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return wrapped

class File:
    def __init__(self, file, fuse):
        self.file, self.write, self.flush = file, fuse.wrap(file.write), fuse.wrap(file.flush)
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.file.close()
    def fileno(self):
        return self.file.fileno()

save_arrays(path, {"x": np.zeros(50_000)})
while True:
    child = os.fork()
    if child == 0:
        fuse, create = Fuse(points), atomic._create
        def creating(folder):
            file, temporary = create(folder)
            return File(file, fuse), temporary
        atomic._create = creating
        for name in ("open", "fsync", "replace", "chmod", "close"):
            setattr(os, name, fuse.wrap(getattr(os, name)))
        save_arrays(path, {"x": np.ones(50_000)})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    values = set(load_arrays(path)["x"].tolist())
    assert len(values) == 1, (points, values)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    assert len([name for name in os.listdir(os.path.dirname(path)) if name.endswith(".tmp")]) <= 1
    points += 1
assert values == {1.0}
print(points)
"""


@POSIX
def test_kill_at_any_point_of_saving_leaves_a_whole_file(tmp_path):
    done = run_python(KILLED, tmp_path / "a.npz")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10
    assert os.listdir(tmp_path) == ["a.npz"]


SAVING_FOREVER = """
import sys, numpy as np
from dlcore.io import save_arrays
value = 0
while True:
    save_arrays(sys.argv[1], {"x": np.full(500_000, value), "y": np.full(500_000, value)})
    if value == 0:
        print("first", flush=True)
    value += 1
"""


@POSIX
def test_kill_at_a_random_moment_leaves_a_whole_file(tmp_path):
    path, random = tmp_path / "a.npz", np.random.default_rng(0)
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", SAVING_FOREVER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdout.readline() == b"first\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(random.uniform(0, 0.1))
            child.kill()
        loaded = load_arrays(path)
        assert len({*loaded["x"].tolist(), *loaded["y"].tolist()}) == 1
    save_arrays(path, {})
    assert os.listdir(tmp_path) == ["a.npz"]
