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
