"""A public name disappears, or a new one appears, only if `public_api.txt` says so as well.

Public is what a module lists in `__all__`. After a change that is meant, write the inventory anew
from the root of the repository, and look at its diff:

    python tests/test_public_api.py > tests/public_api.txt
"""

import ast
import functools
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = Path(__file__).with_name("public_api.txt")
COMMAND = "python tests/test_public_api.py > tests/public_api.txt"


def names_of(path: Path) -> list[str]:
    """What a file lists in `__all__`, read without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


@functools.cache
def public() -> dict[str, list[str]]:
    """Public names by module; a module with a leading underscore has none."""
    found = {}
    for path in sorted((ROOT / "coefvq").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts) and (names := names_of(path)):
            found[".".join(parts)] = names
    return found


def lines() -> list[str]:
    return sorted(f"{module}.{name}" for module, names in public().items() for name in names)


def test_the_inventory_is_up_to_date():
    kept, found = INVENTORY.read_text(encoding="utf-8").splitlines(), lines()
    gone = [name for name in kept if name not in found]
    new = [name for name in found if name not in kept]
    assert not gone, f"{gone} were public and are gone; if that is meant: {COMMAND}"
    assert not new, f"{new} are public now; if that is meant: {COMMAND}"
    assert kept == found, f"{INVENTORY.name} is not sorted, or has a line twice: {COMMAND}"


def test_the_losses_are_in_it():
    assert {"coefvq.losses.cpfd_loss", "coefvq.objective.Objective"} <= set(lines())


@pytest.mark.parametrize("module", public())
def test_public_names_exist_and_stand_once(module):
    names = public()[module]
    assert len(names) == len(set(names)), f"a name stands twice in {module}.__all__"
    loaded = importlib.import_module(module)
    assert [name for name in names if not hasattr(loaded, name)] == []


if __name__ == "__main__":
    print(*lines(), sep="\n")
