import errno
import os
import sys

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from coefvq import config, launch


def test_words_that_hydra_cannot_read_are_named():
    assert launch.words_for_hydra(["-m", "+recipe=cpfd", "--cfg", "job", "a=1,2"])[-1] == "a=1,2"
    with pytest.raises(ValueError, match=r"cannot be read as key=value; put a value"):
        launch.words_for_hydra(["overrides=[data.num_frames=2]"])


def test_a_path_that_is_there_needs_no_quotes(tmp_path):
    folder = tmp_path / "cpfd_data.labelled=100, my [run]"
    folder.mkdir()
    words = launch.words_for_hydra([f"model={folder}", "seed=1"])
    assert words[1] == "seed=1"
    found = OverridesParser.create().parse_override(words[0])
    assert found.key_or_group == "model" and str(found.value()) == str(folder)
    (tmp_path / "a,b").mkdir()  # without quotes a sweep
    (found,) = launch.words_for_hydra([f"model={tmp_path / 'a,b'}"])
    assert OverridesParser.create().parse_override(found).value() == str(tmp_path / "a,b")
    with pytest.raises(ValueError, match="put a value with ="):
        launch.words_for_hydra([f"model={tmp_path / 'a=b'}"])
    with pytest.raises(ValueError, match="put a value with ="):  # too long for a path
        launch.words_for_hydra(["recipes=[" + ",".join(["cpfd data.labelled=9"] * 30) + "]"])


def test_errors_a_user_can_mend_leave_with_one_sentence(capsys, monkeypatch):
    monkeypatch.delenv("COEFVQ_DEBUG", raising=False)
    for error, said in [
        (ValueError("give a folder"), "coefvq: give a folder"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the device"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "ulimit -f"),
        (OSError(errno.ENOSPC, "our own sentence"), "coefvq: our own sentence"),
        (OSError(errno.EIO, "another sentence"), "coefvq: another sentence"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "x/y"), "x/y is not ours to read or write"),
    ]:
        with pytest.raises(SystemExit) as left, launch.one_sentence():
            raise error
        assert left.value.code == 2 and said in capsys.readouterr().err
    with pytest.raises(SystemExit) as left, launch.one_sentence():
        raise KeyboardInterrupt
    assert left.value.code == 130


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    with pytest.raises(KeyError), launch.one_sentence():
        raise KeyError("x")
    with pytest.raises(OSError, match="Input/output"), launch.one_sentence():
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(ConnectionError), launch.one_sentence():
        raise ConnectionError("no number")
    monkeypatch.setenv("COEFVQ_DEBUG", "1")
    with pytest.raises(ValueError, match="shown"), launch.one_sentence():
        raise ValueError("shown")


@pytest.fixture
def refused(monkeypatch, capsys):
    """What `python -m coefvq.<program>` says to some words."""

    def run(program, *words):
        @hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name=program)
        def main(cfg):
            with launch.one_sentence():
                assert cfg.model is not None

        monkeypatch.setattr(sys, "argv", [program, *words])
        monkeypatch.delenv("COEFVQ_DEBUG", raising=False)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        with pytest.raises(SystemExit) as left:
            launch.start(main, recipes=program == "train")
        assert left.value.code == 2
        said = capsys.readouterr().err.strip()
        assert "\n" not in said and said.startswith("coefvq: ")
        return said.removeprefix("coefvq: ")

    return run


def test_what_hydra_has_to_say_is_one_sentence_too(refused):
    said = refused("train", "data.labeled=40")
    assert said.startswith("data.labeled is no word of this config; add --cfg job to see all")
    said = refused("train", "student=xvlm_tini")
    assert said.startswith("student=xvlm_tini is unknown (did you mean xvlm_tiny?); choose one of ")
    assert "matchlite_base" in said
    assert refused("predict", "clips=x") == "model is not set; add model=… to the command"
    assert "nowhere" in refused("train", "+recipe=cpfd", "~nowhere")


def test_a_broken_interpolation_is_one_sentence():
    with pytest.raises(OmegaConfBaseException) as caught:
        _ = OmegaConf.create({"a": "${b}"}).a
    assert "\n" not in launch.sentence_of(caught.value)
