from omegaconf import OmegaConf

from coefvq.compare import Job, compose
from coefvq.engine import build
from coefvq.modules.mllm.config import LoraSettings
from coefvq.modules.motion.encoder import MotionConfig
from coefvq.modules.quality_encoder import SpatialConfig
from coefvq.modules.spatiotemporal import ProjectorConfig
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


def test_the_published_matchlm_is_a_word(small, small_pairs, tmp_path):
    cfg = small("+recipe=matchlm2lite", "teacher=matchlm_base", *small_pairs, folder=tmp_path)
    model = cfg.teacher.model
    assert model["_target_"].endswith("MatchLM") and model.frame_budget == 32
    assert model.mllm.backbone.model_name_or_path.startswith("llava-hf/llava-onevision-qwen2-0.5b")
    assert model.mllm.audio.model_name_or_path == "openai/whisper-small"
    cfg.runtime.vocab_size, cfg.data.mel_bins = 50, 80
    config = build(model.mllm)
    assert config.lora == LoraSettings(rank=16, alpha=32, dropout=0.05)
    assert not (config.train_vision or config.train_audio or config.train_language)
    assert cfg.teacher.training.lr == 1e-4
    # The words that a user needs with it are words of the data.
    assert {"tokenizer", "mel_bins", "frame_size", "num_frames"} <= set(cfg.data)


def test_the_published_lmm_vqa_is_a_word(tmp_path):
    words = ("+recipe=lmm_vqa", "teacher=lmm_vqa_base", "data=manifest", "data.train=mine.csv",
             "data.tokenizer=llama", "data.num_frames=8", "data.sampling=per_second",
             "data.motion_frames=32", "data.motion_seconds=1", "data.motion_size=224",
             "data.cache_frames=false")  # fmt: skip
    cfg = compose(Job("x", None, 1, words, tmp_path))
    found = build(cfg.teacher.model.config)
    spatial, motion = found.encoder.spatial, found.encoder.motion
    assert spatial == SpatialConfig(spatial.model_name_or_path, source="chunks")
    # The shape of pytorchvideo's file, whose weights are loaded by name.
    for word in ("kind", "frames", "size", "mode", "width", "alpha", "beta"):
        assert getattr(motion, word) == getattr(MotionConfig(), word)
    assert tuple(motion.depths) == MotionConfig().depths
    assert found.encoder.frozen and found.encoder.residual_scales == 0
    assert found.projector == ProjectorConfig()
    assert found.language.model_name_or_path.startswith("meta-llama/") and not found.train_language
    assert cfg.teacher.training.lr == 1e-4
