"""Words and tables that our pages share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

METRIC_LABELS = {
    "f1": "F1",
    "average_precision": "average precision",
    "auroc": "AUROC",
    "recall_at_precision_80": "recall at 80 % precision",
    "accuracy": "accuracy",
    "ece": "ECE (lower is better)",
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE (lower is better)",
    "plcc_raw": "PLCC without logistic",
    "rmse_raw": "RMSE without logistic (lower is better)",
    "logistic_fit": "logistic fitted (1 yes, 0 no)",
    "level_accuracy": "accuracy of five levels, raw scores",
}


def shown(value: Any) -> str:
    """Write one metric: four decimals, and a word where it is undefined."""
    if value is None:
        return "undefined"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Write a Markdown table; a bar inside a cell is escaped."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


__all__ = ["METRIC_LABELS", "shown", "table"]
