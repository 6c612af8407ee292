"""Scripts under `recipes/`, which are no modules of the library, loaded for their tests."""

import importlib.util
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def load_script(place):
    """The module of one of them: `load_script("studies/same_score.py")`."""
    path = RECIPES / place
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
