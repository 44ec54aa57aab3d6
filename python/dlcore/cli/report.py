# SPDX-License-Identifier: Apache-2.0
"""What ``dlcore train`` says: the choices before training, the result after it, and the same as one object."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..defaults import Settings

if TYPE_CHECKING:
    from .train import Run


def before(run: Run) -> list[str]:
    """Data, net, and which settings were given and which chosen."""
    schema, data = run.data.schema, run.data
    rows = [len(y) for _, y in (data.train, data.validation, data.test)]
    outputs = f"{len(schema.classes)} classes" if schema.classes else f"{run.net.out_features} target(s)"
    encoder = schema.encoder
    ignored = f"; ignored: {', '.join(encoder.ignored)}" if encoder and encoder.ignored else ""
    widths = " - ".join(map(str, (run.net.in_features, *run.settings.layers, run.net.out_features)))
    lines = [
        f"data      {run.name}: {rows[0]} training, {rows[1]} validation, {rows[2]} test rows; "
        f"{schema.width} columns, {outputs}{ignored}",
        f"net       {widths}, {run.net.parameter_count():,} parameters",
    ]
    shown = {k.replace("_", "-"): _shown(v) for k, v in settings(run.settings).items()}
    net = run.net
    shown |= {"seed": str(run.seed), "precision": net.precision, "threads": str(net.threads)}
    shown |= {"device": net.device, "gemm": net.gemm}
    keys = {k.replace("_", "-") for k in run.options}
    for title, names in (("given", [k for k in shown if k in keys]), ("chosen", [k for k in shown if k not in keys])):
        if names:
            lines.append(f"{title:<10}{', '.join(f'{k} {shown[k]}' for k in names)}")
    return lines


def after(run: Run) -> str:
    """The result for people."""
    found = values(run)
    score = "test_r2" if found["test_accuracy"] is None else "test_accuracy"
    lines = []
    if not run.options.get("quiet"):
        seconds = ", ".join(f"{name} {run.seconds[name]:.1f}" for name in ("reading", "training", "testing"))
        kept = f"kept epoch {found['best_epoch']} of {found['epochs']} (best validation part)"
        lines = [f"epochs    {kept}, {found['samples_per_second']:,.0f} rows/s", f"seconds   {seconds}"]
    name = score.replace("_", " ")
    return "\n".join([*lines, f"{name} {found[score]:.4f} ({found['test_rows']} rows)"])


def values(run: Run) -> dict[str, Any]:
    """The result as one flat object."""
    history, data = run.history, run.data
    best = history.rows[(history.best or len(history)) - 1]
    trained = sum(len(data.train[1]) / row["samples_per_second"] for row in history.rows)
    return {
        "data": run.name, "task": run.settings.task,
        "test_accuracy": run.test.get("accuracy"), "test_r2": run.test.get("r2"), "test_loss": run.test["loss"],
        "training_loss": best["loss"], "validation_loss": best["validation_loss"],
        "validation_accuracy": best.get("validation_accuracy"),
        "epochs": len(history), "best_epoch": history.best, "stopped": history.reason,
        "seconds": run.seconds["total"], "seconds_reading": run.seconds["reading"],
        "seconds_training": run.seconds["training"], "seconds_testing": run.seconds["testing"],
        "samples_per_second": len(data.train[1]) * len(history) / trained,
        "seed": run.seed, "precision": run.net.precision, "device": run.net.device, "gemm": run.net.gemm,
        "threads": run.net.threads, "parameters": run.net.parameter_count(),
        "inputs": run.net.in_features, "outputs": run.net.out_features,
        "training_rows": len(data.train[1]), "validation_rows": len(data.validation[1]), "test_rows": len(data.test[1]),
        "settings": settings(run.settings), "out": run.options.get("out"),
    }  # fmt: skip


def settings(chosen: Settings) -> dict[str, Any]:
    """The settings by the names that options have."""
    return {k: v for k, v in asdict(chosen).items() if k != "task"}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
