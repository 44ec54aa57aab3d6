# SPDX-License-Identifier: Apache-2.0
"""Learning curves: what is drawn, on which axes, and the error without Matplotlib."""

import sys

import pytest

from dlcore import History, plots

PNG = b"\x89PNG\r\n\x1a\n"


def history(epochs=3, accuracy=True, decades=1.0):
    made = History()
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "loss": decades / epoch, "validation_loss": 1.1 * decades / epoch, "lr": 0.1 / epoch}
        made.rows.append(row | ({"accuracy": 0.5, "validation_accuracy": 0.4} if accuracy else {}))
    made.best = epochs
    return made


@pytest.fixture(autouse=True)
def matplotlib():
    return pytest.importorskip("matplotlib")


def test_learning_curves_draw_training_validation_and_the_kept_epoch():
    loss, accuracy, rate = plots.learning_curves(history())
    assert [line.get_label() for line in loss.lines] == ["training", "validation", "kept: epoch 3"]
    assert [line.get_ydata().tolist() for line in accuracy.lines[:2]] == [[50.0] * 3, [40.0] * 3]
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == ["loss (mean per row)", "accuracy (%)", "learning rate"]
    assert rate.get_xlabel() == "epoch" and loss.get_yscale() == "linear"


def test_learning_curves_of_a_regression_have_two_panels_and_decades_a_log_axis():
    loss, rate = plots.learning_curves(history(20, accuracy=False))
    assert loss.get_yscale() == "log" and len(rate.lines) == 1


def test_plots_use_the_axes_they_are_given():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    for draw in (plots.losses, plots.accuracies, plots.learning_rate):
        assert draw(history(), axes) is axes
    assert draw(history()) is not axes


def test_a_single_epoch_is_a_visible_point(tmp_path):
    assert plots.losses(history(1)).lines[0].get_marker() == "o"
    plots.save_learning_curves(history(1), tmp_path / "curves.png", title="one epoch")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'learning_curves: expected Matplotlib, got none; pip install "dlcore\[plot\]"'):
        plots.learning_curves(history())
