import pytest
from omegaconf import OmegaConf

from coefvq import config


def composed(**changes):
    cfg = OmegaConf.create(
        {
            "seed": 1,
            "phases": ["teacher", "student"],
            "train_on": "all",
            "cascade": {"gate": None},
            "objective": {
                "distill_weight": 0.5,
                "temperature": 1.0,
                "confidence": "margin",
                "weights": {"cpfd": 1.0},
                "terms": {
                    "cpfd": {
                        key: f"${{objective.{key}}}"
                        for key in ("distill_weight", "temperature", "confidence")
                    }
                },
            },
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


SERVED = {
    "cascade__gate": "entropy", "teacher__name": "x", "teacher__kind": "model",
    "teacher__model": {}, "teacher__folds": None, "teacher__inputs": "public",
    "teacher__calibration": None,
}  # fmt: skip


def test_a_good_config_passes():
    config.validate(composed())
    config.validate(composed(**SERVED))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"recipe": "cpfd"}, "taken as a plain value"),
        (
            {"objective__distill_weight": 1.5},
            r"distill_weight must be a number in \[0, 1\], got 1.5",
        ),
        ({"objective__distill_weight": "half"}, r"must be a number in \[0, 1\], got 'half'"),
        ({"objective__temperature": 0}, r"temperature must be a number in \(0, inf\), got 0"),
        ({"objective__temperature": float("nan")}, "got nan"),
        ({"objective__weights__feature": 1.0}, "'cpfd', 'feature'.* but objective.terms has"),
        ({"objective__weights__cpfd": -1.0}, "weights.cpfd must be a number"),
        ({"objective__confidence": "vibes"}, "vibes is unknown; choose one of .*margin"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"phases": ["student", "teacher"]}, "phases is"),
        ({"optimizer__lr": -1}, r"^optimizer.lr must be a number in .0, inf., got -1"),
        ({"optimizer__weight_decay": -1}, "optimizer.weight_decay must be a number in"),
        ({"trainer__gradient_clip_val": -1}, "gradient_clip_val must be a number in"),
        ({"trainer__max_steps": 0}, "trainer.max_steps is a whole number from 1, or -1 to go by"),
        ({"data__batch_size": 0}, "data.batch_size is a whole number from 1, got 0"),
        ({"data__num_frames": 1.5}, "data.num_frames is a whole number from 1, got 1.5"),
        ({"train_on": "some"}, "train_on is labelled or all"),
        (SERVED | {"teacher__inputs": "whole"}, "reads privileged features, which do not exist"),
        (SERVED | {"teacher__kind": "table"}, "is no single model"),
        (SERVED | {"teacher__folds": 5}, "is no single model"),
        (SERVED | {"teacher__calibration": "temperature"}, "set teacher.calibration=null"),
    ],
)
def test_bad_values_get_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        config.validate(composed(**changes))
    assert "\n" not in str(caught.value)


def test_what_is_not_set_is_named():
    with pytest.raises(ValueError, match=r"^data\.train is not set; add data\.train=…"):
        config.validate(composed(data__train="???", runtime__task="???"))


def test_a_logger_without_its_package_is_said(monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    target = "lightning.pytorch.loggers.TensorBoardLogger"
    with pytest.raises(ValueError, match="needs the package tensorboard; pip install"):
        config.validate(composed(logger___target_=target))


def test_an_unknown_recipe_names_those_that_exist():
    with pytest.raises(ValueError, match=r"recipe cfpd is unknown; choose one of .*, cpfd, "):
        config.check_command_line(["+recipe=cfpd"])
    with pytest.raises(ValueError, match="needs a plus"):
        config.check_command_line(["recipe=cpfd"])
    config.check_command_line(["-m", "+recipe=cpfd,pfd", "objective.distill_weight=0.3"])


def test_a_missing_folder_says_where_it_was_sought():
    with pytest.raises(ValueError, match="nothing_here/ is neither in"):
        config.folder("nothing_here")


def test_a_word_that_no_term_reads_is_refused(small, tmp_path):
    """As Hydra advises where a word is mistyped."""
    cfg = small("+recipe=cpfd", "+objective.distil_weight=0.3", folder=tmp_path / "run")
    sentence = r"objective\.distil_weight is read by no term of this objective; its words are disti"
    with pytest.raises(ValueError, match=sentence):
        config.validate(cfg)


def test_words_for_a_new_teacher_beside_a_finished_one_are_refused():
    words = ["+recipe=cpfd", "teacher.model.fusion=gated"]
    config.check_words_are_read(composed(), words)
    given = composed(teacher__checkpoint="teacher")
    config.check_words_are_read(given, words[:1])
    with pytest.raises(ValueError, match=r"^teacher.model.fusion=gated is for a teacher that is"):
        config.check_words_are_read(given, words)


def test_a_precision_is_checked_before_anything_is_trained(small, tmp_path):
    for word in ("1.5", "0", "high"):
        cfg = small("+recipe=matchlite", f"at_precision={word}", folder=tmp_path / "run")
        with pytest.raises(ValueError, match=r"at_precision must be a number in \(0, 0.9999\]"):
            config.validate(cfg)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("+recipe=matchlite", "student=xvlm_micro"), "data are pairs and student XVLMStudent"),
        (("+recipe=matchlite", "teacher=mllm"), "data are pairs and teacher ClipMLLM reads single"),
        (("+recipe=supervised", "teacher=matchlm"), "single clips and teacher MatchLM reads pairs"),
    ],
)
def test_models_of_pairs_need_pairs(small, tmp_path, words, sentence):
    with pytest.raises(ValueError, match=sentence):
        config.validate(small(*words, folder=tmp_path / "run"))
