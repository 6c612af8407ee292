"""`python -m coefvq.train +recipe=cpfd`: one run, or with `-m` a sweep of them."""

from __future__ import annotations

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from coefvq import config, launch
from coefvq.runs import default_run_dir, rank
from coefvq.teacher_supply.words import check_teacher_words


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="train")
def _main(cfg: DictConfig) -> None:
    from coefvq import pipeline  # torch and Lightning load only once the words are understood

    with launch.one_sentence():
        job = HydraConfig.get()
        config.check_words_are_read(cfg, job.overrides.task)
        if job.mode == RunMode.MULTIRUN and cfg.run_dir is None and rank() == 0:
            config.validate(cfg)  # no folder for words that make no run
            check_teacher_words(cfg)
            swept = config.swept_words(job.overrides.task, sys.argv[1:])
            with open_dict(cfg):
                task = config.task_word(cfg)
                cfg.run_dir = str(default_run_dir(cfg.name, task, cfg.seed, swept))
        pipeline.run(cfg)


def main() -> None:
    """Check the recipe's name, compose, run."""
    launch.start(_main, recipes=True)


if __name__ == "__main__":
    main()
