"""`python -m coefvq.train +recipe=cpfd`: one run, or with `-m` a sweep of them."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from coefvq import config


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="train")
def _main(cfg: DictConfig) -> None:
    from coefvq import pipeline  # torch and Lightning load only once the words are understood

    with config.one_sentence():
        pipeline.run(cfg)


def main() -> None:
    """Check the recipe's name, compose, run."""
    config.read_words()
    with config.one_sentence():
        config.check_command_line(sys.argv[1:])
        config.register_recipes()
    _main()


if __name__ == "__main__":
    main()
