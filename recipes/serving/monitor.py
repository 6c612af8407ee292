"""Is a served cascade still what was fitted: what it misses, and whether its traffic has moved.

    python recipes/serving/monitor.py cascade=runs/…/cascade log=folder

Reads the log of `litserve_app.py` or `ray_app.py` started with `audit=` and `log=`; no model is
loaded, and the server may run on.
"""

import sys

from coefvq.launch import one_sentence
from coefvq.serving.options import read_options
from coefvq.serving.watch import read_log, watch_folder

OPTIONS = {
    "cascade": "",  # its folder
    "log": "",  # the server's
}


def main(words: list[str]) -> None:
    """Print a sentence per finding."""
    with one_sentence():
        options = read_options(words, OPTIONS)
        print(*watch_folder(options["cascade"], read_log(options["log"])).lines(), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
