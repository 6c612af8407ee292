import pytest


def _report(label, task, seed, student=None, teacher=None, **more):
    test = {}
    if student is not None:
        test["student"] = {"f1": student}
    if teacher is not None:
        test["teacher"] = {"f1": teacher}
        more = {"teacher_name": "df_xvlm", "teacher_fingerprint": f"t-{task}-{seed}"} | more
    return {"label": label, "task": task, "seed": seed, "test": test} | more


@pytest.fixture
def make_report():
    """Make one report as `coefvq.compare` hands it to the table."""
    return _report


@pytest.fixture
def reports():
    """Two tasks, three seeds; pfd lacks seed 3 on kind. One teacher per task and seed."""
    made = []
    for task, base in (("degraded", 0.50), ("kind", 0.30)):
        for seed in (1, 2, 3):
            shift = 0.01 * seed
            top = base + 0.20 + shift
            made.append(_report("supervised", task, seed, base + shift))
            if (task, seed) != ("kind", 3):
                made.append(_report("pfd", task, seed, base + shift + 0.08 + 0.01 * seed, top))
            made.append(_report("cpfd", task, seed, base + shift + 0.10, top))
            made.append(
                _report(
                    "self_distillation",
                    task,
                    seed,
                    base + shift + 0.02,
                    base + shift,
                    teacher_name="xvlm",
                )
            )
    return made


@pytest.fixture(scope="session")
def cascade_numbers():
    """Figures of a cascade, as `cascade.json` holds them."""

    def point(budget, deferred, recall, f1, seconds):
        metrics = {"recall_at_precision_80": recall, "f1": f1}
        return {"budget": budget, "deferred": deferred, "metrics": metrics,
                "seconds_per_1000": seconds}  # fmt: skip

    return {
        "policy": {"rule": "budget", "level": 0.1, "labelled": 64},
        "gate": {"name": "entropy"},
        "deferred": 0.172,
        "test": {
            "light": {"f1": 0.5, "recall_at_precision_80": None, "n": 64.0},
            "cascade": {"f1": 0.6, "recall_at_precision_80": 0.2, "n": 64.0},
            "heavy": {"f1": 0.7, "recall_at_precision_80": 0.3, "n": 64.0},
        },
        "curve": [
            point(0.0, 0.0, 0.1, 0.5, 11.0),
            point(0.1, 0.094, None, 0.6, 21.0),
            point(1.0, 1.0, 0.3, 0.7, 111.0),
        ],
        "area": {"average_precision": 0.25, "accuracy": None},
        "aurc": 0.35,
        "calibration": {"everywhere": 0.1, "inside": None, "outside": 0.2},
        "cost": {"unit": "GPU-seconds"},
        "seconds_per_1000": {"light": 11.0, "cascade": 21.0, "heavy": 110.0},
        "latency": {
            "kept": {"p50": 0.048, "p99": 0.09},
            "deferred": {"p50": 0.077, "p99": 0.117},
        },
    }
