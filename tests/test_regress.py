# SPDX-License-Identifier: Apache-2.0
"""Regressions are of dlcore's lead over the fastest peer, told from noise."""

import importlib
import json

import pytest

from benches import result

leads, regress = map(importlib.import_module, ("leads", "regress"))


# ------------------------------------------------------------------------------------------------- regressions
def led(times, spread=0.02, peer="torch_eager", **changes):
    """A result in which dlcore leads one peer in one row."""
    lead = {"times": times, "low": times * (1 - spread / 2), "high": times * (1 + spread / 2)}
    row = {"row": "W1", "contestant": peer, "precision": "float32", "lead": lead}
    return result(rows=[row], **changes)


def both(slow, fast):
    return result(rows=[*led(slow, peer="numpy")["rows"], *led(fast)["rows"]])


@pytest.mark.parametrize(
    ("fresh", "base", "worse"),
    [
        (led(1.5), led(1.5), False),
        (led(3.0), led(1.5), False),
        (led(1.44), led(1.5), False),  # within 5 %
        (led(1.4), led(1.5), True),
        (led(1.4, 0.05), led(1.5, 0.05), False),  # within the spread of both
        (both(9.0, 1.2), both(9.0, 1.5), True),
        (both(7.0, 1.5), both(9.0, 1.5), False),  # only the fastest peer counts
        (both(0.5, 1.5), led(1.5), False),  # and only one that both have
    ],
)
def test_regressions_are_of_the_lead(fresh, base, worse):
    assert bool(regress.compare(fresh, base)[0]) == worse


def test_noisy_rounds_are_not_judged():
    worse, unclear = regress.compare(led(1.0, 0.5), led(2.0, 0.1))
    assert (worse, len(unclear)) == ([], 1)


@pytest.mark.parametrize(
    ("base", "said"),
    [(led(1.0, action="infer"), "the same action"), (led(1.0, peer="jax"), "rows with a float32 peer"),
     (led(1.0, machine={"processor": "another", "threads": 2, "instruction_set": "avx2"}), "the same processor")],
)  # fmt: skip
def test_results_that_do_not_compare_are_refused(base, said):
    with pytest.raises(regress.Incomparable, match=f"expected .*{said}"):
        regress.compare(led(1.0), base)


def test_a_regression_is_one_line_and_status_1(tmp_path, capsys):
    for name, values in (("fresh", led(1.0)), ("base", led(2.0))):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    fresh, base = (str(tmp_path / f"{name}.json") for name in ("fresh", "base"))
    assert regress.main([fresh, base]) == 1
    assert capsys.readouterr().out == ("regression: W1: 1.00x the fastest float32 peer, was 2.00x; 5 % less would be noise\n")
    assert regress.main([base, fresh]) == 0
    assert regress.main([fresh, str(tmp_path / "none.json")]) == 2


def test_the_newest_result_of_this_machine_is_the_base(tmp_path):
    for i, values in enumerate([led(1.0), led(2.0, date="2026-02-01"), led(3.0, date="2026-03-01", action="ops")]):
        (tmp_path / f"{i}_peers_x.json").write_text(json.dumps(values))
    assert regress.newest(led(5.0), tmp_path)["date"] == "2026-02-01"
    with pytest.raises(regress.Incomparable, match="expected a result of infer, a processor, avx2, 2 threads"):
        regress.newest(led(1.0, action="infer"), tmp_path)
