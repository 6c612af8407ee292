"""What the README shows, works: snippets run, commands compose, links lead somewhere."""

import re
import shlex
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from coefvq import config, launch
from coefvq.data.make_pairs import read_options

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [TEXT, *(p.read_text(encoding="utf-8") for p in (ROOT / "recipes").glob("*.md"))]
COMMANDS = sorted(
    {
        line.strip().split("&&")[-1].strip()
        for page in PAGES
        for line in page.splitlines()
        if line.strip().split("&&")[-1].strip().startswith("python -m coefvq.")
    }
)


def test_the_readme_opens_with_the_two_commands():
    block = re.search(r"```\n(.*?)```", TEXT, re.DOTALL).group(1).splitlines()
    assert block == [
        "pip install -c constraints.txt -e . && python -m coefvq.train +recipe=cpfd",
        'pip install -c constraints.txt -e ".[test]" && pytest',
    ]
    assert TEXT.index(block[0]) < 200


def test_the_python_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) >= 2
    space: dict = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), space)
    assert space["loss"].isfinite()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_compose(command):
    words = shlex.split(command, comments=True)
    if "--" in words:
        words = [*words[:3], *launch.words_for_hydra(words[3:])]
    module, arguments = words[2].removeprefix("coefvq."), words[3:]
    if module == "data.make_pairs":  # reads its words itself
        assert set(read_options(arguments)) >= {"clips", "out"}
        return
    module = {"cache_teacher": "train"}.get(module, module)  # the same words
    arguments = [word for word in arguments if word != "-m"]
    # One value of each sweep is enough to see that the key exists.
    arguments = [w if "[" in w else w.split(",")[0] for w in arguments]
    config.check_command_line(arguments)
    config.register_recipes()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        cfg = hydra.compose(module, overrides=arguments)
    if module == "train":
        config.validate(cfg)


def test_there_are_commands():
    assert len(COMMANDS) >= 8


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links and all((ROOT / link).exists() for link in links)
