"""`python -m coefvq.predict model=…/student clips=folder out=scores.parquet`: score any clips.

A quality model also compares two files: `compare=a.mp4,b.mp4`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import pandas
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from coefvq import config, launch
from coefvq.serving.prediction_parts import PART, Parts, check_out, unreadable
from coefvq.serving.score_columns import (
    calibration_of,
    decision_line,
    problem_lines,
    score_columns,
    shown_lines,
)
from coefvq.types import Clip

if TYPE_CHECKING:
    from coefvq.evaluation.score_calibration import ScoreCalibration
    from coefvq.serving.served_model import ServedModel


def predict(
    model: str | Path,
    clips: str | Path,
    *,
    out: str | Path,
    root: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    on_bad_clip: str = "skip",
) -> pandas.DataFrame:
    """Score clips with a saved model and write one row per clip.

    Args:
        model: a folder written by a run (`runs/…/student`), or of a teacher that reads only what
            exists when a clip is served.
        clips: a video file, a folder (every video file below it; they have no text), or a
            manifest with the columns id, path and the model's text fields.
        out: a Parquet file. Parts are kept in `<out>.parts` until all clips are done, so a killed
            call goes on where it was.
        root: where a manifest's paths start; default: the manifest's folder.
        overwrite: replace `out` if it exists.
        batch_size: clips per forward pass; scores differ by about 1e-7 with it.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        on_bad_clip: `"skip"` gives an unreadable clip a row with the reason and no score; `"error"`
            stops at it.

    Returns:
        Columns id, path, the scores (see `score_columns`), of a regression `remarks` (see
        `coefvq.data.reading_remarks`), and `problem`; both are empty where all is well.

    Raises:
        ValueError: if there is nothing to score, `out` exists, or a clip cannot be read.
    """
    from coefvq.data.clip_list import list_clips
    from coefvq.modules.pretrained import load_metadata
    from coefvq.serving.cascade_inference import check_options
    from coefvq.serving.served_model import load_served, pick_device
    from coefvq.students.load import takes_pairs

    if takes_pairs(model):
        raise ValueError(
            f"model={model} judges pairs; give query= and candidate=, two video files, in place of "
            "clips="
        )
    check_options(batch_size, 0.0, on_bad_clip)
    check_out(out, overwrite)
    served = load_served(model).to(torch.device(pick_device(device)))
    calibration = calibration_of(load_metadata(model))
    found = list_clips(clips, root=root, text=served.inputs.text_fields, for_model=True)
    parts = Parts(out, served.fingerprint, found, overwrite=overwrite)
    todo = [clip for clip in found if clip.id not in parts.done]
    chunks = [todo[i : i + PART] for i in range(0, len(todo), PART)]
    console = Console(stderr=True)
    for chunk in chunks:
        rows: list[dict[str, Any]] = []
        batches = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        for some in track(batches, description="clips", console=console):
            rows.extend(_score(some, served, calibration, on_bad_clip))
        parts.add(pandas.DataFrame(rows))
    # Without a readable clip there would be no score columns, or they would come last.
    task = served.task
    width = (0,) if task.num_outputs == 1 else (0, task.num_outputs)
    names = score_columns(torch.zeros(width), task, served.threshold, calibration)
    said = ["remarks"] if task.kind == "regression" else []
    return parts.finish(["id", "path", *names, *said, "problem"])


def _score(
    clips: Sequence[Clip],
    served: ServedModel,
    calibration: ScoreCalibration | None,
    on_bad_clip: str,
) -> Iterator[dict[str, Any]]:
    from coefvq.data.media import UnreadableClip
    from coefvq.data.reader import collate
    from coefvq.data.reading_remarks import reading_remarks

    reader, samples, problems = served.reader(), [], {}
    for clip in clips:
        try:
            samples.append(reader.read(clip))
        except UnreadableClip as error:
            problems[clip.id] = unreadable(clip, error, on_bad_clip)
    columns: dict[str, list] = {}
    if samples:
        logits = served.logits(collate(samples))
        columns = score_columns(logits, served.task, served.threshold, calibration)
    if served.task.kind == "regression":
        paths = {clip.id: clip.path for clip in clips}
        unit = [None] * len(samples) if calibration is None else columns.get("score", [])
        columns["remarks"] = [
            reading_remarks(paths[s.id], served.inputs, int(s.frame_mask.sum()), percent=percent)
            for s, percent in zip(samples, unit, strict=True)
        ]
    place = {sample.id: i for i, sample in enumerate(samples)}
    for clip in clips:
        values = {k: v[place[clip.id]] for k, v in columns.items()} if clip.id in place else {}
        problem = problems.get(clip.id, "")
        yield {"id": clip.id, "path": str(clip.path), **values, "problem": problem}


def _pair_line(cfg: DictConfig) -> str:
    from coefvq.serving.predict_pair import judge_pair
    from coefvq.serving.served_model import pick_device

    if cfg.query is None or cfg.candidate is None or cfg.clips is not None:
        raise ValueError("a pair is query= and candidate=, two video files, without clips=")
    texts = {"query_text": cfg.query_text, "candidate_text": cfg.candidate_text}
    device = pick_device(cfg.device)
    return judge_pair(cfg.model, cfg.query, cfg.candidate, **texts, device=device).line()


def _table(words: dict[str, Any], audit: float, audit_seed: int) -> pandas.DataFrame:
    from coefvq.serving.cascade_folder import is_cascade
    from coefvq.serving.predict_cascade import predict_cascade

    model, clips = words.pop("model"), words.pop("clips")
    if is_cascade(model):
        return predict_cascade(model, clips, audit=audit, audit_seed=audit_seed, **words)
    if audit:
        raise ValueError(f"audit={audit} is for a cascade, and model={model} is a single model")
    return predict(model, clips, **words)


def _say_colours(paths: Iterable[str | Path]) -> None:
    from coefvq.data.colour import colour_note, colours_of

    if note := colour_note(*colours_of(paths)):
        print(note, file=sys.stderr)


def _say_remarks(table: pandas.DataFrame) -> None:
    from coefvq.data.reading_remarks import remarks_note

    good = table[table["problem"] == ""]
    if "remarks" not in good:
        return
    words = good["remarks"].fillna("").tolist()
    if note := remarks_note(dict(zip(good["id"], words, strict=True)), len(good)):
        print(note, file=sys.stderr)


def _watch_lines(cfg: DictConfig, table: pandas.DataFrame) -> list[str]:
    """What the answers say of a cascade; with an audit the same as JSON beside the table."""
    from coefvq.serving.watch import watch_folder

    if table["route"].isna().all():
        return []
    watched = watch_folder(cfg.model, table)
    if not cfg.audit:
        return watched.share_lines()
    watched.write(Path(cfg.out).with_suffix(".audit.json"))
    return watched.lines()


def listed(word: str) -> str:
    """Turn `compare=a.mp4,b.mp4` into a list, which Hydra would take for a sweep.

    A list with quotes is Hydra's own, and may have names with commas. Titles may have whatever they
    have.

    >>> listed("compare=a.mp4,b c.mp4"), listed("compare=[a.mp4,b(1).mp4]"), listed("batch_size=2")
    ('compare=["a.mp4","b c.mp4"]', 'compare=["a.mp4","b(1).mp4"]', 'batch_size=2')
    >>> listed("compare=['a,b.mp4',c.mp4]")
    "compare=['a,b.mp4',c.mp4]"
    >>> listed("query_text=hello, world"), listed("query_text={title: hello}")
    ('query_text="hello, world"', 'query_text={title: hello}')
    """
    name, _, value = word.partition("=")
    if name in ("query_text", "candidate_text") and value not in ("", "null"):
        return word if _is_hydras(word) else f"{name}={launch.quoted(value)}"
    if name != "compare" or value == "null":
        return word
    if value.startswith("[") and value.endswith("]"):
        if {"'", '"'} & set(value):
            return word
        value = value[1:-1]
    files = ",".join(map(launch.quoted, value.split(",")))
    return f"compare=[{files}]"


def _is_hydras(word: str) -> bool:
    """Whether somebody has put the value into quotes or braces, as Hydra reads them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(word)._value
    except HydraException:
        return False
    return isinstance(value, (dict, QuotedString))


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="predict")
def _main(cfg: DictConfig) -> None:
    with launch.one_sentence():
        words = {str(k): v for k, v in cfg.items()}
        if words.pop("query") is not None or cfg.candidate is not None:
            print(_pair_line(cfg))
            return
        if words.pop("compare") is not None:
            from coefvq.serving.predict_compare import compare_files
            from coefvq.serving.served_model import pick_device

            if cfg.clips is not None:
                raise ValueError("give compare=, two video files, or clips=, not both")
            print(compare_files(cfg.model, cfg.compare, device=pick_device(cfg.device)).lines())
            _say_colours(cfg.compare)
            return
        for name in ("candidate", "query_text", "candidate_text"):
            del words[name]
        audit, audit_seed = words.pop("audit"), words.pop("audit_seed")
        if cfg.clips is None:
            raise ValueError(
                "nothing to score: give clips=, a folder, a video file or a manifest; for two "
                "files of a quality model compare=; for a pairwise student query= and candidate="
            )
        from coefvq.modules.pretrained import load_metadata
        from coefvq.serving.cascade_folder import is_cascade

        out = cfg.out
        try:
            table = _table(words, audit, audit_seed)
        except KeyboardInterrupt:
            print("\ncoefvq: stopped; the same command goes on where it was", file=sys.stderr)
            raise SystemExit(130) from None
        cascade = is_cascade(cfg.model)
        metadata = {} if cascade else load_metadata(cfg.model)
        unit = calibration_of(metadata)
        shown = shown_lines(table) if unit is None else shown_lines(table, coverage=unit.coverage)
        for line in [*shown, *(_watch_lines(cfg, table) if cascade else ())]:
            print(line)
        if metadata and (line := decision_line(metadata)):
            print(line)
        for line in problem_lines(table):
            print(line, file=sys.stderr)
        _say_remarks(table)
        _say_colours(table["path"][table["problem"] == ""])
        bad = int((table["problem"] != "").sum())
        clips = "1 clip" if len(table) == 1 else f"{len(table)} clips"
        print(f"{clips} in {out}" + (f", {bad} of them unreadable" if bad else ""))


if __name__ == "__main__":
    sys.argv[1:] = [listed(word) for word in sys.argv[1:]]
    launch.start(_main)
