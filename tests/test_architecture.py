"""The house keeps its shape: who may import whom, and how large a file may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "coefvq"

# What each room may import of coefvq itself. One direction only; see CONTRIBUTING.md.
ALLOWED = {
    "losses": {"losses"},
    "objective": {"losses"},
    "specs": set(),
    "types": {"specs"},
    "pairs": {"types"},
    "modules": {"types", "modules"},
    "students": {"types", "pairs", "modules", "students"},
    "teacher_cache": {"types", "files", "teacher_cache"},
    # losses: how much each of several teachers counts is one formula, in the loss and in a teacher.
    "teachers": {"types", "pairs", "modules", "losses", "teacher_cache", "teachers"},
    "data": {"types", "pairs", "files", "data"},
    "files": set(),
    "versions": set(),
    "evaluation": {"types", "files", "evaluation"},
    "cascade": {"types", "files", "evaluation", "cascade"},
    "serving": {"types", "pairs", "files", "modules", "students", "teachers", "data", "evaluation",
                "cascade", "serving"},
    "optim": set(),
    "callbacks": {"types"},
    "config": {"losses", "files"},
    "distiller": {"types", "objective", "optim", "evaluation"},
    "engine": {"callbacks", "progress"},
    "teacher_supply": {"types", "files", "modules", "losses", "objective", "teachers", "data",
                       "teacher_cache", "evaluation", "distiller", "engine", "config", "runs",
                       "clip_features", "versions", "teacher_supply"},
}  # fmt: skip
# What each room must not import from outside.
FORBIDDEN = {
    "losses": {"lightning", "hydra", "omegaconf", "transformers", "numpy", "pandas", "wandb"},
    "objective": {"lightning", "hydra", "omegaconf", "transformers"},
    "modules": {"lightning", "hydra", "omegaconf"},
    "students": {"lightning", "hydra", "omegaconf"},
    "teachers": {"lightning", "hydra", "omegaconf"},
    "teacher_cache": {"lightning", "hydra", "omegaconf", "transformers"},
    "evaluation": {"lightning", "hydra", "omegaconf"},
    "cascade": {"lightning", "hydra", "omegaconf", "transformers", "pandas"},
    "data": {"hydra", "omegaconf"},
    "serving": {"litserve", "ray", "fastapi", "lightning"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_files_are_found():
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    here = room(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("coefvq.")}
    if here in ALLOWED:
        assert ours - {"__version__"} <= ALLOWED[here], f"{here} may import {ALLOWED[here]}"
    outside = {name.split(".")[0] for name in imports(path)}
    assert not outside & FORBIDDEN.get(here, set())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_holds_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_every_module_has_a_test_file_of_its_name():
    """`coefvq/a/b.py` has its proof in `tests/a/test_b.py`; there are no exceptions."""
    missing = []
    for path in FILES:
        place = path.relative_to(PACKAGE)
        proof = ROOT / "tests" / place.with_name(f"test_{place.name}")
        if place.name not in ("__init__.py", "__main__.py") and (
            not proof.is_file() or "def test_" not in proof.read_text(encoding="utf-8")
        ):
            missing.append(f"{place} needs {proof.relative_to(ROOT)}")
    assert not missing


def test_the_top_level_is_the_frame():
    expected = {
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
        "constraints.txt", "coefvq", "recipes", "conf", "tests", "notebooks",
    }  # fmt: skip
    made = {"runs", "build", "dist", "outputs", "wandb"}
    found = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert found - made - {p for p in found if p.endswith(".egg-info")} <= expected
