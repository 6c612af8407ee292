"""Every recipe composes, every target exists and takes the arguments that it is given."""

import ast
import importlib.util
import inspect

import hydra
import pandas
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from coefvq import config
from coefvq.data.vqa_manifests import training_words

RECIPES = config.recipe_names()
GROUPS = {path.name: sorted(p.stem for p in path.glob("*.yaml"))
          for path in config.folder("conf").iterdir() if path.is_dir()}  # fmt: skip
RUNTIME = ["runtime.task=binary", "runtime.num_outputs=1", "runtime.num_privileged=3",
           "runtime.vocab_size=50"]  # fmt: skip


def compose(*overrides):
    config.register_recipes()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        return hydra.compose("train", overrides=[*overrides, *RUNTIME, "run_dir=runs/x"])


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def check(cfg):
    found = list(targets(OmegaConf.to_container(cfg, resolve=True)))
    assert found
    for node in found:
        given = {k: v for k, v in node.items() if not k.startswith("_")}
        signature = inspect.signature(get_object(node["_target_"]))
        bind = signature.bind_partial if node.get("_partial_") else signature.bind
        bind(**given)


def test_all_recipes_are_found():
    assert RECIPES == ["blind_quality", "coefvq", "cpfd", "feature_kd", "ha_pfd", "label_smoothing",
                       "lmm_vqa", "lmm_vqa_kd", "logit_kd", "matchlite", "matchlm",
                       "matchlm2lite", "mllm", "mllm_kd", "pfd", "pfd_quality", "relational_kd",
                       "self_distillation", "supervised", "teacher"]  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_and_its_arguments_bind(name):
    cfg = compose(f"+recipe={name}")
    config.validate(cfg)
    assert cfg.name == name
    check(cfg)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sentence_without_targets(name):
    text = (config.folder("recipes") / f"{name}.yaml").read_text()
    assert "_target_" not in text
    assert text.startswith("# @package _global_\n") and f"+recipe={name}" in text


@pytest.mark.parametrize(
    "choice",
    [f"{g}={o}" for g, options in GROUPS.items() if g not in ("table",) for o in options],
)
def test_every_option_composes_with_a_recipe(choice):
    """Those of pairs and of quality with a recipe of theirs, all others with CPFD."""
    words = ["data.train=x.csv"] if choice in ("data=manifest", "data=pairs") else []
    recipe = "matchlm2lite" if "match" in choice or "pair" in choice else "cpfd"
    recipe = "blind_quality" if "blind" in choice else recipe  # without an X-VLM for a teacher
    check(compose(f"+recipe={recipe}", choice, *words))


@pytest.mark.parametrize(
    "path", sorted(config.folder("conf").rglob("*.yaml")), ids=lambda p: p.stem
)
def test_an_option_says_what_it_is(path):
    text = path.read_text()
    assert text.startswith("# "), f"{path} has no header comment"


def test_the_sweep_turns_knobs_that_exist():
    sweep = yaml.safe_load((config.folder("recipes") / "sweeps" / "cpfd_weights.yaml").read_text())
    cfg = compose("+recipe=cpfd", "logger=wandb")
    parameters = sweep["parameters"]
    assert {"objective.distill_weight", "objective.temperature", "objective.confidence"} <= set(
        parameters
    )
    for key, values in parameters.items():
        assert OmegaConf.select(cfg, key, throw_on_missing=True) is not None, key
        for value in values.get("values", [values.get("min"), values.get("max")]):
            if value is None:
                continue
            config.validate(compose("+recipe=cpfd", "logger=wandb", f"{key}={value}"))
    assert "+recipe=cpfd" in str(sweep["command"])


@pytest.mark.parametrize("path", sorted((config.folder("conf") / "table").glob("*.yaml")),
                         ids=lambda p: p.stem)  # fmt: skip
def test_every_row_of_a_table_composes(path):
    table = yaml.safe_load(path.read_text())
    assert table["recipes"]
    for row in table["recipes"]:
        recipe, *own = row.split()
        config.validate(compose(f"+recipe={recipe}", *own))


@pytest.mark.parametrize("path", sorted(config.folder("recipes").glob("*.yaml")),
                         ids=lambda p: p.stem)  # fmt: skip
def test_every_recipe_takes_a_users_own_table(path):
    """Words that only embedded clips know stand in data files of their own."""
    choice = "pairs" if "shortform_pairs" in path.read_text() else "manifest"
    cfg = compose(f"+recipe={path.stem}", f"data={choice}", "data.train=x.csv")
    assert set(cfg.data) == set(compose(f"data={choice}", "data.train=x.csv").data)


QUALITY = ["blind_quality", "lmm_vqa", "lmm_vqa_kd", "pfd_quality"]


@pytest.mark.parametrize("name", QUALITY)
def test_quality_recipes_go_with_a_manifest(name):
    """With the words that `vqa_manifests` prints: every key left under data is a manifest's."""
    table = pandas.DataFrame({"label_std": [1.0]})
    words = training_words("konvid", "clips.csv", "folder", table).split()
    cfg = compose(f"+recipe={name}", *words)
    config.validate(cfg)
    check(cfg)
    assert set(cfg.data) == set(compose("data=manifest").data)
    assert (cfg.data.task, cfg.data.text, cfg.data.student_labels) == ("regression", [], 1.0)
    assert cfg.data.fit == "fragments" and cfg.data.privileged == []
    OmegaConf.resolve(cfg.data)
    instantiate(cfg.data)


def test_quality_recipes_keep_their_embedded_data():
    """What published numbers were measured on."""
    found = {name: compose(f"+recipe={name}").data for name in QUALITY}
    of = {name: (d.task, d.labelled, d.unlabelled, d.student_labels, d.privileged, d.text_fields)
          for name, d in found.items()}  # fmt: skip
    assert of == {
        "blind_quality": ("quality", 400, 700, 1.0, "full", []),
        "lmm_vqa": ("quality", 1100, 0, 1.0, "full", []),
        "lmm_vqa_kd": ("quality", 1100, 0, 0.2, "full", []),
        "pfd_quality": ("quality", 1100, 0, 0.2, "encoder", []),
    }
    assert compose("+recipe=blind_quality", "data.labelled=1100").data.labelled == 1100


def imports_of_ours():
    """Each (script, module, name) that the scripts of recipes/ import of coefvq."""
    for script in sorted(config.folder("recipes").rglob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("coefvq"):
                yield from ((script.name, node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize(("script", "module", "name"), list(imports_of_ours()))
def test_scripts_import_what_exists(script, module, name):
    """Most need an extra, and would only be run where it is installed."""
    found = importlib.import_module(module)
    assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}")
