# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, keeps and refuses, and its exit statuses."""

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import dlcore as dl
from dlcore import _core, defaults
from dlcore import io as dlio
from dlcore.cli import main
from dlcore.cli import train as train_command

TRAIN_KEYS = {
    "test_accuracy", "test_r2", "training_loss", "validation_loss", "epochs", "best_epoch", "seconds", "samples_per_second",
    "seed", "precision", "device", "gemm", "threads", "parameters", "data", "training_rows", "settings",
}  # fmt: skip


@pytest.fixture
def cli(capsys):
    """Run a command in this process: (status, standard output, standard error)."""

    def run(*arguments):
        status = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def one_json(out):
    """The one line of standard output as an object without NaN."""
    assert out.count("\n") == 1, out
    return json.loads(out, parse_constant=pytest.fail)


def assert_refused(result, status, *parts):
    """One line on standard error with these parts, nothing on standard output."""
    got, out, err = result
    assert (got, out) == (status, ""), result
    assert err.startswith("dlcore") and err.endswith("\n") and err.count("\n") == 1, err
    command, who = err.split(": ")[:2]
    assert command.split()[-1] != who
    for part in parts:
        assert part in err


def people(rows, seed=0):
    """(header, rows): two numeric columns, one of them with gaps, a text column, and a class and a value they decide."""
    rng = np.random.default_rng(seed)
    table = []
    for age, height, city in zip(rng.uniform(20, 80, rows), rng.normal(170, 10, rows), rng.choice(3, rows), strict=True):
        income = age / 10 + 2 * city
        gap = "?" if rng.random() < 0.1 else f"{height:.1f}"
        label = "high" if income > 7 else "low"
        table.append([f"{age:.2f}", gap, ("Oslo", "Rome", "Lima")[city], label, f"{1000 * income:.1f}"])
    return ["age", "height", "city", "income", "euros"], table


def column(path, name):
    """The texts of a column of a CSV file."""
    with open(path, newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """people.csv with a class, prices.csv with a value, rows.csv without either."""
    path = tmp_path_factory.mktemp("cli")
    header, rows = people(400)
    write_csv(path / "people.csv", header[:4], [r[:4] for r in rows])
    write_csv(path / "prices.csv", [*header[:3], "euros"], [[*r[:3], r[4]] for r in rows])
    write_csv(path / "rows.csv", header[:3], [r[:3] for r in rows])
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """Folders of a classification and a regression run."""
    for name in ("people", "prices"):
        arguments = ["train", folder / f"{name}.csv", "--out", folder / name, "--layers", "32", "--epochs", "80", "--quiet"]
        assert main([*map(str, arguments), "--dropout", "0"]) == 0
    return folder


# ---- help, version, info


def test_help_lists_the_commands_without_importing_them():
    code = "import sys; from dlcore.cli import main; main(['--help']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "dlcore train digits" in out and "exit status" in out
    assert not {"dlcore.cli.train", "dlcore.defaults", "matplotlib", "tomllib"} & set(out.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "info"])
def test_help_of_a_command_shows_an_example(cli, command):
    status, out, err = cli(command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: dlcore {command}") and f"example: dlcore {command}" in out and "--json" in out


def test_version_is_that_of_the_package(cli):
    assert cli("--version") == (0, f"dlcore {dl.__version__}\n", "")


def test_info_tells_version_threads_processor_and_gpu(cli):
    status, out, err = cli("info", "--json")
    info = one_json(out)
    assert (status, err) == (0, "")
    assert info["version"] == dl.__version__ and info["threads"] >= 1
    assert {"vendor", "instruction_sets", "chosen"} <= set(info["cpu"])
    assert {"built", "available", "architectures", "devices", "reason", "gemm"} == set(info["cuda"])
    assert set(info["cuda"]["gemm"]) == set(_core.GEMMS)
    assert set(info["precision"]) == {"float32", "bf16x3", "bf16"}
    assert info["cpu"]["chosen"] in cli("info")[1] and info["precision"]["bf16"] in cli("info")[1]


def test_info_refuses_an_instruction_set_that_is_not_there():
    result = subprocess.run(
        [sys.executable, "-m", "dlcore", "info"], env={**os.environ, "DLCORE_CPU": "amx9"}, capture_output=True, text=True
    )
    assert result.returncode == 1 and "none (DLCORE_CPU=amx9)" in result.stdout
    assert result.stderr.startswith("dlcore info: DLCORE_CPU: expected one of") and result.stderr.count("\n") == 1


# ---- wrong use


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "expected a command (train, predict, evaluate, info, bench), got nothing"),
        ("trian", "got 'trian'; did you mean 'train'?"),
        ("--verison", "got '--verison'; did you mean '--version'?"),
        ("train", "expected DATA, got nothing"),
        ("predict net.npz", "expected DATA, got nothing"),
        ("evaluate", "expected NET, got nothing"),
        ("info x", "expected no arguments, got 'x' too"),
        ("train absent.csv other.csv", "expected DATA, got 'other.csv' too"),
        ("train digit", "got 'digit'; did you mean 'digits'?"),
        ("train mnist", "expected a --data-dir with mnist, got none"),
        ("train digits --data-dir .", "expected no --data-dir with digits"),
        ("train digits --target x", "expected no target column with digits, got 'x'"),
        ("train absent.csv --test absent.npz", "expected a .csv test file"),
        ("train absent.csv --epchs 3", "got '--epchs'; did you mean '--epochs'?"),
        ("train absent.csv --epochs", "expected a value for --epochs, got none"),
        ("train absent.csv --epochs 0", "expected --epochs to be an integer >= 1, got '0'"),
        ("train absent.csv --epochs 2.5", "expected --epochs to be an integer >= 1, got '2.5'"),
        ("train absent.csv --threads 0", "expected --threads to be an integer from 1 to 1024, got '0'"),
        ("train absent.csv --batch-size -1", "expected --batch-size to be an integer >= 1, got '-1'"),
        ("train absent.csv --layers 8,0", "expected --layers to be widths >= 1 separated by commas, or none, got '8,0'"),
        ("train absent.csv --layers 8,,8", "got '8,,8'"),
        ("train absent.csv --dropout 1", "expected --dropout to be a number in [0, 1), got '1'"),
        ("train absent.csv --lr 0", "expected --lr to be a finite number > 0, got '0'"),
        ("train absent.csv --lr nan", "expected --lr to be a finite number > 0, got 'nan'"),
        ("train absent.csv --weight-decay -1", "expected --weight-decay to be a finite number >= 0"),
        ("train absent.csv --seed -1", "expected --seed to be an integer from 0"),
        ("train absent.csv --activation rellu", "got 'rellu'; did you mean 'relu'?"),
        ("train absent.csv --optimizer adamww", "did you mean 'adamw'?"),
        ("train absent.csv --schedule cosin", "did you mean 'cosine'?"),
        ("train absent.csv --init kaimin-normal", "did you mean 'kaiming-normal'?"),
        ("train absent.csv --task regresion", "did you mean 'regression'?"),
        ("train absent.csv --gemm mma", "train: gemm: expected 'auto' on the CPU, got 'mma'"),
        ("train absent.csv --precision bf61", "--precision to be one of float32, bf16x3, bf16, float16, got 'bf61'; did you"),
        ("train absent.csv --precision float16", "on the CPU, got 'float16'; float16 takes device='cuda' and gemm='mma'"),
        ("train absent.csv --device gpu", "expected --device to be one of auto, cpu, cuda, got 'gpu'"),
        ("train absent.csv --device cuda:x", "expected --device to be one of auto, cpu, cuda, got 'cuda:x'"),
        ("train absent.csv --json=1", "expected --json without a value, got '1'"),
        ("train absent.csv --batch-size 1 --batch-norm", "expected --batch-size of at least 2 with --batch-norm, got 1"),
        ("train digits --batch-size 1295", "expected --batch-size of at most 1294, the training rows, got 1295"),
        ("predict absent.npz absent.txt", "expected digits, mnist, fashion-mnist or a .csv"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(cli, arguments, message):
    # The files do not exist, so a message about use shows that none was opened.
    assert_refused(cli(*arguments.split()), 2, message)


def test_cuda_that_is_not_there_is_wrong_use(cli):
    if dl._core.cuda_info()["available"]:
        pytest.skip("CUDA is available")
    assert_refused(cli("train", "absent.csv", "--device", "cuda"), 2, "expected an available device, got 'cuda'")


# ---- bad data and files


def test_bad_files_are_one_line_and_status_1(cli, tmp_path, trained):
    _, rows = people(30)
    one = write_csv(tmp_path / "one.csv", ["age", "income"], [[r[0], "low"] for r in rows])
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 50)[:-12])
    ordinal = write_csv(tmp_path / "ordinal.csv", ["age", "rank"], [[r[0], i] for i, r in enumerate(rows)])
    np.savez(tmp_path / "nan.npz", x=np.full((20, 2), np.nan), y=np.arange(20) % 2)
    net = trained / "people" / "net.npz"
    (tmp_path / "cut.npz").write_bytes(net.read_bytes()[:-100])
    dl.Net([dl.Linear(2, 2)]).save(tmp_path / "bare.npz")
    narrow = write_csv(tmp_path / "narrow.csv", ["age", "height"], [r[:2] for r in rows])
    for arguments, message in [
        (["train", tmp_path / "absent.csv"], "absent.csv': No such file"),
        (["train", tmp_path / "cut.csv.gz"], "expected whole gzip data"),
        (["train", tmp_path / "nan.npz"], "clean the data; in Python allow_nonfinite=True lets them pass"),
        (["train", ordinal], "choose task='regression' (--task regression)"),
        (["train", one], "expected at least 2 classes, got only 'low'"),
        (["train", trained / "people.csv", "--target", "incom"], "did you mean 'income'?"),
        (["train", "mnist", "--data-dir", tmp_path], "expected train-images-idx3-ubyte.gz in the folder"),
        (["train", trained / "people.csv", "--out", one], "expected --out to be a folder, got"),
        (["train", "digits", "--config", tmp_path / "absent.toml"], "No such file"),
        (["predict", tmp_path / "cut.npz", trained / "rows.csv"], "expected an .npz archive"),
        (["predict", tmp_path / "bare.npz", trained / "rows.csv"], "expected a net that dlcore train kept"),
        (["predict", net, narrow], "expected a column 'city'"),
        (["predict", net, tmp_path / "nan.npz"], "expected a CSV file with the columns of training"),
        (["evaluate", net, trained / "rows.csv"], "expected a column 'income'"),
    ]:
        assert_refused(cli(*arguments), 1, message)


def test_debug_shows_the_traceback(cli, tmp_path):
    for arguments in (["--debug", "train", tmp_path / "absent.csv"], ["train", tmp_path / "absent.csv", "--debug"]):
        status, _, err = cli(*arguments)
        assert status == 1 and err.startswith("Traceback") and "No such file" in err


def test_unforeseen_errors_are_one_line_too(cli, monkeypatch):
    monkeypatch.setattr(train_command, "load", lambda *_, **__: {}["x"])
    assert_refused(cli("train", "digits"), 1, "KeyError: 'x'; --debug shows where")
    monkeypatch.setattr(train_command, "load", lambda *_, **__: np.empty(1 << 60, np.int8))
    assert_refused(cli("train", "digits"), 1, "expected enough memory, got none left (Unable to allocate")


# ---- train


def test_train_prints_one_json_object(cli):
    status, out, err = cli("train", "digits", "--epochs", 3, "--seed", 2, "--threads", 1, "--json")
    result = one_json(out)
    assert status == 0 and set(result) >= TRAIN_KEYS
    assert (result["epochs"], result["seed"], result["threads"], result["device"]) == (3, 2, 1, "cpu")
    assert result["test_r2"] is None and result["test_accuracy"] > 0.8
    assert result["training_rows"] + result["validation_rows"] + result["test_rows"] == 1797
    assert "given     epochs 3, seed 2, threads 1" in err and "epoch 3/3" in err and "chosen    preprocess" in err


def test_train_tells_people_what_was_chosen_and_reached(cli):
    status, out, err = cli("train", "digits", "--epochs", 2, "--no-batch-norm", "--layers", "none", "--precision", "bf16x3")
    assert status == 0 and "epoch 2/2" in err
    assert "1294 training, 144 validation, 359 test rows" in out and "net       64 - 10, 650 parameters" in out
    assert "precision bf16x3" in out
    assert "batch-norm no" in out and "layers none" in out and out.splitlines()[-1].startswith("test accuracy 0.")


def test_train_quiet_prints_the_result_only(cli):
    status, out, err = cli("train", "digits", "--epochs", 1, "--quiet")
    assert (status, err) == (0, "") and out.startswith("test accuracy") and out.count("\n") == 1


def test_train_digits_with_the_defaults_reaches_97_percent(cli):
    assert one_json(cli("train", "digits", "--json")[1])["test_accuracy"] >= 0.97


def test_train_repeats_bit_for_bit(cli, tmp_path):
    for name, threads in (("a", 1), ("b", 2)):
        assert cli("train", "digits", "--epochs", 2, "--out", tmp_path / name, "--threads", threads)[0] == 0
    a, b = (dlio.load_arrays(tmp_path / name / "net.npz") for name in "ab")
    assert all(np.array_equal(a[key], b[key]) for key in a) and set(a) == set(b)


def test_train_regression_reports_r2_in_target_units(cli, folder, tmp_path):
    result = one_json(cli("train", folder / "prices.csv", "--epochs", 40, "--json", "--quiet", "--out", tmp_path)[1])
    assert result["test_accuracy"] is None and result["test_r2"] > 0.9 and result["task"] == "regression"


def test_train_takes_a_test_file(cli, folder, tmp_path):
    header, rows = people(50, seed=1)
    test = write_csv(tmp_path / "test.csv", header[:4], [r[:4] for r in rows])
    result = one_json(cli("train", folder / "people.csv", "--test", test, "--epochs", 1, "--json", "--quiet")[1])
    assert (result["training_rows"], result["validation_rows"], result["test_rows"]) == (360, 40, 50)


def test_train_with_every_name(cli):
    for option, names in (("optimizer", defaults.OPTIMIZERS), ("schedule", defaults.SCHEDULES)):
        for name in names:
            status, out, _ = cli("train", "digits", f"--{option}", name, "--epochs", 2, "--layers", 16, "--json", "--quiet")
            assert status == 0 and one_json(out)["settings"][option] == name


@pytest.mark.filterwarnings("default")
def test_train_diverging_says_so_in_finite_numbers(cli):
    status, out, err = cli("train", "digits", "--lr", 1e30, "--optimizer", "sgd", "--no-batch-norm", "--json", "--quiet")
    assert status == 0 and "warning: fit: the loss became" in err and err.count("\n") == 1
    assert one_json(out)["stopped"] == "the loss is not finite"


# ---- the folder of --out


def test_out_keeps_net_configuration_log_and_curves(trained):
    names = {"net.npz", "config.json", "log.csv"}
    try:
        import matplotlib  # noqa: F401

        names |= {"curves.png"}
    except ImportError:
        pass
    assert set(os.listdir(trained / "people")) == names
    configuration = json.loads((trained / "people" / "config.json").read_text())
    assert configuration["layers"] == [32] and configuration["dropout"] == 0 and configuration["optimizer"] == "adamw"
    log = list(csv.DictReader(io.StringIO((trained / "people" / "log.csv").read_text())))
    assert [int(row["epoch"]) for row in log] == list(range(1, 81))
    assert {"loss", "validation_loss", "validation_accuracy", "lr", "seconds"} <= set(log[0])


def test_a_result_that_cannot_be_kept_is_still_printed(cli, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train_command.folder, "fill", full)
    status, out, err = cli("train", "digits", "--epochs", 1, "--out", tmp_path, "--json", "--quiet")
    assert status == 1 and one_json(out)["epochs"] == 1 and "No space left" in err and err.count("\n") == 1


def test_ctrl_c_keeps_the_best_net_so_far(tmp_path):
    # The handler is set by hand: a shell may have started the tests with the signal ignored.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from dlcore.cli import main; "
    code += "sys.exit(main(sys.argv[1:]))"
    arguments = ["train", "digits", "--epochs", "100000", "--out", str(tmp_path), "--json"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=-1, stderr=-1, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 130 and process.stdout.read() == "", (lines, rest)
    assert "Traceback" not in rest and "interrupted; the net of epoch" in rest.splitlines()[-1]
    net = dl.load(tmp_path / "net.npz")
    data = dl.data.prepare(dl.data.digits())
    assert net.evaluate(*data.validation)["accuracy"] > 0.5
    assert (tmp_path / "log.csv").exists()


# ---- configuration files


def test_config_gives_options_and_the_command_line_goes_first(cli, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('data = "digits"\nlayers = [16, 8]\nepochs = 2\nbatch_norm = false\nlr = 1\nactivation = "leaky_relu"\n')
    status, out, _ = cli("train", "--config", path, "--epochs", 1, "--json", "--quiet")
    settings = one_json(out)["settings"]
    assert status == 0 and (settings["layers"], settings["epochs"], settings["batch_norm"]) == ([16, 8], 1, False)
    assert (settings["lr"], settings["activation"]) == (1.0, "leaky-relu")


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("epoch = 3", 2, "expected an option's name as key"),
        ("epoch = 3", 2, "got 'epoch'; did you mean 'epochs'?"),
        ("epochs = 0", 2, "to be an integer >= 1, got 0"),
        ("epochs = 1.5", 2, "to be an integer >= 1, got 1.5"),
        ("epochs = true", 2, "to be an integer >= 1, got True"),
        ('json = "yes"', 2, "to be true or false, got 'yes'"),
        ("data = 3", 2, "to be a text, got 3"),
        ('config = "x"', 2, "got 'config'"),
        ("batch-size = 8\nbatch_size = 8", 2, "once"),
        ("[layers]\na = 1", 2, "widths >= 1"),
        ("epochs = ", 1, "expected TOML"),
        ("layers = [8, [8]]", 2, "widths >= 1"),
    ],
)
def test_config_mistakes_are_one_line(cli, tmp_path, text, status, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert_refused(cli("train", "digits", "--config", path), status, message)


# ---- predict and evaluate


def test_predict_reads_raw_rows_and_agrees_with_evaluate(cli, trained, tmp_path):
    net, out = trained / "people" / "net.npz", tmp_path / "answers.csv"
    assert cli("predict", net, trained / "rows.csv", "--out", out) == (0, f"400 predictions in {out}\n", "")
    assert out.read_text().startswith("prediction,p(high),p(low)\n")
    pairs = zip(column(out, "prediction"), column(trained / "people.csv", "income"), strict=True)
    share = np.mean([answer == truth for answer, truth in pairs])
    result = one_json(cli("evaluate", net, trained / "people.csv", "--json")[1])
    assert result["rows"] == 400 and result["accuracy"] == pytest.approx(share) and result["accuracy"] > 0.9
    assert cli("predict", net, trained / "rows.csv")[1] == out.read_text()


def test_predict_answers_in_the_units_of_the_target(cli, trained):
    net = trained / "prices" / "net.npz"
    answers = one_json(cli("predict", net, trained / "rows.csv", "--json")[1])
    truth = np.array(column(trained / "prices.csv", "euros"), float)
    predicted = np.array(answers["predictions"]["prediction"])
    r2 = 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    result = one_json(cli("evaluate", net, trained / "prices.csv", "--json")[1])
    assert answers["rows"] == 400 and result["r2"] == pytest.approx(r2, abs=1e-4) and r2 > 0.5


def test_evaluate_takes_the_name_of_the_target(cli, trained, tmp_path):
    header, rows = people(40, seed=2)
    path = write_csv(tmp_path / "renamed.csv", [*header[:3], "class"], [r[:4] for r in rows])
    assert cli("evaluate", trained / "people" / "net.npz", path, "--target", "class")[0] == 0


def test_predict_into_a_closed_pipe_is_quiet(trained):
    arguments = [sys.executable, "-m", "dlcore", "predict", str(trained / "people" / "net.npz"), str(trained / "rows.csv")]
    with subprocess.Popen(arguments, stdout=-1, stderr=-1, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_module_and_command_are_the_same(trained):
    for module in ("dlcore", "dlcore.cli"):
        out = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True).stdout
        assert out == f"dlcore {dl.__version__}\n"
