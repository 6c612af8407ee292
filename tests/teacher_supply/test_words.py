import inspect

import pytest

import coefvq.losses
from coefvq import config, pipeline
from coefvq.cache_teacher import cache_teacher
from coefvq.teacher_supply.words import _FEATURE_LOSSES, check_teacher_task, check_teacher_words
from coefvq.types import TaskSpec

RANDOM = "data.train_sampling=random_segments"
BOTH = ("teacher=ensemble", "teacher.members=[df_xvlm,dense]")


def check(cfg):
    config.validate(cfg)
    check_teacher_words(cfg)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["teacher.cache=maybe"], r"teacher\.cache is auto or off, got 'maybe'"),
        (["teacher.cache_dtype=int8"], r"teacher\.cache_dtype is float32 or float16, got 'int8'"),
        (["teacher.preflight=maybe"], r"teacher\.preflight is true or false, got 'maybe'"),
        (["teacher.view_invariant=2"], r"teacher\.view_invariant is true or false, got 2"),
        (["teacher.calibration=platt"], r"is null, stored or temperature, got 'platt'"),
        (["teacher.baseline=good"], r"teacher\.baseline=good is no value of the metric"),
        (["teacher.baseline=90"], r"teacher\.baseline=90 is no value of the metric"),
        (["teacher.views=0"], r"teacher\.views is a number of views from 1, got 0"),
        (["teacher.views=two"], r"teacher\.views is a number of views from 1, got 'two'"),
        (["teacher.views=3", "teacher.view_invariant=true"], "one answer holds for all; leave out"),
        ([RANDOM], r"set teacher\.views=8 .* or teacher\.cache=off"),
        (["teacher.folds=1"], r"teacher\.folds is a number of folds from 2, got 1"),
        (["teacher.folds=2", "teacher.checkpoint=x"], r"but teacher\.checkpoint is set; leave out"),
        ([*BOTH, "teacher.folds=2"], r"folds=2 trains .*members of an ensemble .*leave teacher"),
        (["teacher=table", "teacher.folds=2"], "a table trains none; leave teacher.folds out"),
        (["teacher=cached", "teacher.folds=2"], "a cache answers as it was written"),
        (["teacher=table"], r"teacher=table needs teacher\.path, a CSV"),
        (["teacher=table", "teacher.path=gone.csv"], r"teacher\.path=gone\.csv does not exist"),
        (["teacher=table", "teacher.numbers=odds"], r"teacher\.numbers is probabilities or logits"),
        (["teacher=cached"], r"teacher=cached needs teacher\.path, the folder that"),
        (["teacher=cached", "teacher.path=gone"], r"teacher\.path=gone does not exist"),
        (["teacher=ensemble", "teacher.members=[]"], "members is empty"),
        (["teacher=ensemble", "teacher.members=[nobody]"], "names 'nobody', which is unknown"),
        (["teacher=ensemble", "teacher.members=nobody"], "names 'nobody', which is unknown"),
        (["teacher=ensemble", "teacher.members=[none]"], "'none', which is no teacher"),
        ([*BOTH, "teacher.weighting=best"], r"teacher\.weighting=best.* 'best' is unknown"),
        ([*BOTH, "teacher.weighting=fixed"], r"=fixed needs teacher\.weights, .* such as \[1, 1\]"),
        (["teacher=ensemble", "teacher.members=[{path:a}]"], "names '', which is unknown"),
        (
            ["teacher=ensemble", "teacher.members=[{teacher:dense,size:1}]"],
            "dense has no word 'siz",
        ),
        (["teacher=table", "teacher.views=8"], r"teacher\.views=8 is for a teacher that is asked"),
        (["teacher=cached", "teacher.cache=off"], "teacher=cached is not; leave it out"),
        (["teacher=cached", "teacher.cache_dtype=float16"], "teacher=cached is not; leave it out"),
        (["teacher=ensemble", "teacher.checkpoint=x"], "teacher=ensemble is not; leave it out"),
        (["teacher.views=8"], r"teacher\.views=8 is for frames that are drawn anew"),
        (["teacher.calibration=stored"], "applies what lies beside a cache, and teacher=df_xvlm"),
        (["teacher.other_versions=1.3"], r"teacher\.other_versions is true or false"),
        ([*BOTH, "teacher.weights=[1,2]"], "weighting=uniform, teacher.weights="),
        ([*BOTH, "teacher.weighting=fixed", "teacher.weights=[1]"], "1 numbers for 2 members"),
        ([*BOTH, "teacher.weighting=fixed", "teacher.weights=[1,-2]"], "numbers from 0, one for"),
        ([*BOTH, "teacher.weighting=fixed", "teacher.weights=a"], "a list of numbers"),
        (["teacher=ensemble", "teacher.members=[dense,table:gone.csv]"], "'table:gone.csv': teach"),
        (["teacher=ensemble", "teacher.members=[dense]", RANDOM], r"'dense': data\.train_sampling"),
        (["trainer.precision=64-true"], r"trainer\.precision=64-true is not supported; choose one"),
    ],
)
def test_bad_words_are_refused_before_anything_is_read(small, tmp_path, words, sentence):
    cfg = small("+recipe=cpfd", *words, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=sentence):
        check(cfg)


@pytest.mark.parametrize(
    "words",
    [
        ["teacher.calibration=null"],
        [RANDOM, "teacher=ensemble", "teacher.views=2"],
        ["teacher.calibration=temperature", "teacher.baseline=0.7"],
        [RANDOM, "teacher.views=8"],
        [RANDOM, "teacher.cache=off"],
        [RANDOM, "teacher=none"],
        [*BOTH, "teacher.weighting=ca_mkd"],
        [*BOTH, "teacher.weighting=fixed", "teacher.weights=[1,0]"],
        ["trainer.precision=bf16-mixed"],
    ],
)
def test_good_words_pass(small, tmp_path, words):
    check(small("+recipe=cpfd", *words, folder=tmp_path / "run"))


@pytest.mark.parametrize("recipe", ["feature_kd", "ha_pfd"])
def test_a_teacher_without_features_is_named_before_it_is_trained(small, tmp_path, recipe):
    table = tmp_path / "scores.csv"
    table.write_text("id,probability\n")
    for words, who in [
        (["teacher=table", f"teacher.path={table}"], "teacher=table"),
        (["teacher.folds=2"], "an out-of-fold teacher"),
        (["teacher=ensemble"], "teacher=ensemble"),
    ]:
        cfg = small(f"+recipe={recipe}", *words, folder=tmp_path / "run")
        with pytest.raises(ValueError, match=f"{who} answers with logits alone and has no feat"):
            check(cfg)
    one = ("teacher=ensemble", "teacher.members=[df_xvlm]")  # passed through as it is
    check(small(f"+recipe={recipe}", *one, folder=tmp_path / "run"))


def test_a_run_starts_with_these_checks(small, tmp_path):
    cfg = small("+recipe=cpfd", "teacher.folds=1", folder=tmp_path / "run")
    for start in (lambda: pipeline.run(cfg, show=False), lambda: cache_teacher(cfg, print)):
        with pytest.raises(ValueError, match="number of folds from 2"):
            start()
    assert not (tmp_path / "run").exists()


def test_the_losses_that_need_features_are_known():
    named = {
        name
        for name, loss in vars(coefvq.losses).items()
        if inspect.isclass(loss) and "need_features(" in inspect.getsource(loss)
    }
    assert named == _FEATURE_LOSSES


def test_what_does_not_go_with_the_task_is_refused(small, tmp_path):
    score = TaskSpec("quality", "regression", (), (1.0, 5.0))
    for words, sentence in [
        (["teacher.calibration=temperature"], "needs probabilities, but 'quality' is a regression"),
        ([*BOTH, "teacher.weighting=ebkd"], "weighting=ebkd needs probabilities"),
    ]:
        cfg = small("+recipe=cpfd", *words, folder=tmp_path / "run")
        with pytest.raises(ValueError, match=sentence):
            check_teacher_task(cfg, score)
    cfg = small("+recipe=cpfd", "teacher.baseline=-0.5", folder=tmp_path / "run")
    check_teacher_task(cfg, score)
    with pytest.raises(ValueError, match=r"baseline=-0\.5 is no f1"):
        check_teacher_task(cfg, TaskSpec("degraded", "binary", ("clean", "degraded")))
