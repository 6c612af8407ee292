from omegaconf import OmegaConf

from coefvq.teacher_supply.members import member_config, member_words, weighting_word


def test_one_word_is_one_member_and_papers_names_are_known():
    assert member_words(OmegaConf.create({"members": ["a", "b:c"]})) == ["a", "b:c"]
    assert member_words(OmegaConf.create({"members": "df_xvlm"})) == ["df_xvlm"]
    assert member_words(OmegaConf.create({"members": None})) == []
    for word, meant in [("ca_mkd", "cross_entropy"), ("ebkd", "entropy"), ("fixed", "fixed")]:
        assert weighting_word(OmegaConf.create({"weighting": word})) == meant


def test_training_of_the_ensemble_is_that_of_its_members(small, tmp_path):
    words = ("+recipe=cpfd", "teacher=ensemble", "teacher.cache_dtype=float16")
    cfg = small(*words, "++teacher.training.max_steps=7", folder=tmp_path / "run")
    member = member_config(cfg, "dense").teacher
    assert (member.name, member.training.max_steps, member.cache_dtype) == ("dense", 7, "float16")
    assert member.training.lr == 1e-3  # its own
    cfg.teacher.training.max_steps = None
    assert member_config(cfg, "dense").teacher.training.max_steps > 7
    assert member_config(cfg, "cached:folder").teacher.path == "folder"
    assert member_config(cfg, "dense:folder").teacher.checkpoint == "folder"


def test_a_mapping_has_words_of_that_teacher(small, tmp_path):
    cfg = small("+recipe=cpfd", "teacher=ensemble", folder=tmp_path / "run")
    word = {"teacher": "table", "path": "a.csv", "numbers": "logits"}
    member = member_config(cfg, word).teacher
    assert (member.kind, member.path, member.numbers) == ("table", "a.csv", "logits")
    assert word["teacher"] == "table"  # and is left as it was
    member = member_config(cfg, {"teacher": "dense", "training": {"max_steps": 3}}).teacher
    assert member.training.max_steps == 3 and member.training.lr == 1e-3


def test_a_member_that_builds_on_another_file_has_its_model(small, tmp_path):
    cfg = small("+recipe=cpfd", "teacher=ensemble", folder=tmp_path / "run")
    member = member_config(cfg, "mllm_base").teacher
    assert member.name == "mllm_base" and member.model["_target_"].endswith("ClipMLLM")
    assert member.kind == "model"
