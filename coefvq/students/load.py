"""Open an exported student without knowing which one it is."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from coefvq.modules.pretrained import read_config
from coefvq.students.blind_quality import BlindQuality
from coefvq.students.matchlite import MatchLite
from coefvq.students.xvlm import XVLMStudent

# Only classes named here are ever made: a downloaded folder cannot choose what code runs.
STUDENTS = (BlindQuality, MatchLite, XVLMStudent)


def takes_pairs(folder: str | Path) -> bool:
    """Whether the student in a folder judges pairs rather than single clips."""
    return bool(read_config(folder)["class"] == MatchLite.__name__)


def load_student(folder: str | Path) -> nn.Module:
    """Load the student that a run exported (`runs/…/student`), in eval mode.

    Raises:
        ValueError: if the folder holds no model, or one that is not a student of this library.
    """
    name = read_config(folder)["class"]
    for student in STUDENTS:
        if student.__name__ == name:
            return student.from_pretrained(folder)
    known = ", ".join(student.__name__ for student in STUDENTS)
    raise ValueError(
        f"{folder} holds a {name}, which is not a student ({known}); give one of those"
    )
