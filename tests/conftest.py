"""No test may touch the network, the user's cache or another test's folders."""

import os
import signal
import subprocess

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
# The models of the tests are so small that a second thread only waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """One process where somebody wants to see the output or to step in (`-s`, `--pdb`)."""
    if config.option.capture == "no" or config.option.usepdb or config.option.trace:
        config.option.numprocesses, config.option.dist = 0, "no"


def pytest_collection_modifyitems(items):
    """Slow tests may take longer, above all on a machine that has other work."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """One cache folder for the whole session: the embedded clips are made once.

    Each process of pytest-xdist has a home of its own, but for those clips, which all may use.
    """
    home = tmp_path_factory.mktemp("coefvq-home")
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in ("shortform", "shortform_pairs"):
            made = tmp_path_factory.getbasetemp().parent / "made-clips" / name
            made.mkdir(parents=True, exist_ok=True)
            (home / name).symlink_to(made)
    return home


@pytest.fixture(autouse=True)
def _own_home(home, monkeypatch):
    monkeypatch.setenv("COEFVQ_HOME", str(home))
    monkeypatch.delenv("COEFVQ_RUN_DIR", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.fixture
def start_process():
    """`subprocess.Popen`, but what still runs when its test ends or fails is killed."""
    started = []

    def start(command, **options):
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


# Sixty clips: of 64 on, decoding starts processes, each of which loads torch first.
SMALL = ("data.labelled=24", "data.unlabelled=4", "data.val=16", "data.test=16",
         "data.batch_size=8", "trainer.max_steps=2", "trainer.log_every_n_steps=1",
         "++teacher.training.max_steps=2")  # fmt: skip


@pytest.fixture(scope="session")
def small_words():
    """What makes a run of `coefvq.train` one that takes a second: few real clips, two steps."""
    return SMALL


@pytest.fixture(scope="session")
def small_pairs():
    """The same for recipes of pairs: fifteen sources, each of which is four clips."""
    return ("data.labelled=4", "data.unlabelled=3", "data.val=4", "data.test=4")


@pytest.fixture(scope="session")
def small():
    """Compose the config of such a run: `small("+recipe=cpfd", folder=tmp_path / "run")`."""
    from coefvq.compare import Job, compose

    def config(*words, folder):
        cfg = compose(Job("x", None, 1, (*SMALL, *words), folder))
        if cfg.teacher.pretraining is not None and "teacher.pretraining" not in " ".join(words):
            cfg.teacher.pretraining.max_steps, cfg.teacher.pretraining.clips = 2, 4
        return cfg

    return config


@pytest.fixture(scope="session")
def finished_run(home, small, tmp_path_factory):
    """The folder of one small finished `+recipe=cpfd` run. Copy it before you change it."""
    from coefvq import pipeline

    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        pipeline.run(small("+recipe=cpfd", folder=folder), show=False)
    return folder


@pytest.fixture(scope="session")
def finished_cascade(home, small, tmp_path_factory):
    """A small finished run whose student and teacher became a cascade. Copy it to change it."""
    from coefvq import pipeline

    folder = tmp_path_factory.mktemp("cascade") / "run"
    words = ("+recipe=self_distillation", "cascade=entropy", "teacher.preflight=false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        pipeline.run(small(*words, folder=folder), show=False)
    return folder


@pytest.fixture
def changed_cascade(finished_cascade, tmp_path):
    """Another cascade of the same two models: `changed_cascade(threshold=0.1)` is its folder."""
    import dataclasses
    import itertools

    from coefvq.cascade.policy import Policy
    from coefvq.serving.cascade_folder import load_cascade, save_cascade

    given = finished_cascade / "cascade"
    number = itertools.count()

    def change(**changes):
        policy = dataclasses.replace(Policy.load(given / "policy.json"), **changes)
        models = load_cascade(given)
        folder = tmp_path / f"cascade-{next(number)}"
        return save_cascade(folder, policy, models.light.folder, models.heavy.folder)

    return change


@pytest.fixture(scope="session")
def cascade_clips(finished_cascade, home):
    """The test clips of that run."""
    import yaml
    from omegaconf import OmegaConf

    from coefvq import engine
    from coefvq.prepare import prepared_data

    cfg = OmegaConf.create(yaml.safe_load((finished_cascade / "config.yaml").read_text()))
    cfg.cache_dir = str(home)
    engine.quiet()
    return prepared_data(cfg).whole_split("test").clips
