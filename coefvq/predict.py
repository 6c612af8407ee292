"""`python -m coefvq.predict model=…/student clips=folder out=scores.parquet`: score any clips.

A quality model also compares two files: `compare=a.mp4,b.mp4`.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import pandas
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from coefvq import config
from coefvq.files import replacing
from coefvq.score_columns import calibration_of, score_columns, shown_lines
from coefvq.types import Clip, InputSpec, TaskSpec

PART = 256  # clips per part file: what a killed run loses at most


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
    """Score clips with an exported student and write one row per clip.

    Args:
        model: a folder written by a run (`runs/…/student`).
        clips: a folder (every video file below it; they have no text), or a manifest with the
            columns id, path and the model's text fields.
        out: a Parquet file. Parts are kept in `<out>.parts` until all clips are done, so a killed
            call goes on where it was.
        root: where a manifest's paths start; default: the manifest's folder.
        overwrite: replace `out` if it exists.
        batch_size: clips per forward pass; scores do not depend on it.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        on_bad_clip: `"skip"` gives an unreadable clip a row with the reason and no score; `"error"`
            stops at it.

    Returns:
        Columns id, path, the scores (see `score_columns`), and `problem` (empty where all is well).

    Raises:
        ValueError: if there is nothing to score, `out` exists, or a clip cannot be read.
    """
    from coefvq.data.clip_list import list_clips
    from coefvq.data.reader import ClipReader
    from coefvq.data.text import load_tokenizer
    from coefvq.modules.pretrained import load_metadata
    from coefvq.students.load import load_student, takes_pairs

    out = Path(out)
    if takes_pairs(model):
        raise ValueError(
            f"model={model} judges pairs; give query= and candidate=, two video files, in place of "
            "clips="
        )
    if on_bad_clip not in ("skip", "error"):
        raise ValueError(f"on_bad_clip is skip or error, got {on_bad_clip!r}")
    if out.suffix != ".parquet":
        raise ValueError(f"out={out} must end in .parquet")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if out.exists() and not overwrite:
        raise ValueError(f"out={out} exists; add overwrite=true or give another name")
    student = load_student(model).eval()
    metadata = load_metadata(model)
    task = TaskSpec(**metadata["task"])
    inputs = InputSpec(**metadata["inputs"])
    reader = ClipReader(inputs, load_tokenizer(model) if inputs.text_fields else None)
    found = list_clips(clips, root=root, text=inputs.text_fields)
    target = torch.device(_device(device))
    student.to(target)
    parts = out.with_name(out.name + ".parts")
    done = _enter_parts(parts, model, found)
    todo = [clip for clip in found if clip.id not in done]
    chunks = [todo[i : i + PART] for i in range(0, len(todo), PART)]
    console = Console(stderr=True)
    for chunk in chunks:
        rows: list[dict[str, Any]] = []
        batches = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        for some in track(batches, description="clips", console=console):
            rows.extend(_score(some, reader, student, task, metadata, target, on_bad_clip))
        number = len(list(parts.glob("*.parquet")))
        _write(pandas.DataFrame(rows), parts / f"{number:06d}.parquet")
    table = pandas.concat([pandas.read_parquet(p) for p in sorted(parts.glob("*.parquet"))])
    order = {clip.id: i for i, clip in enumerate(found)}
    table = table.sort_values("id", key=lambda ids: ids.map(order)).reset_index(drop=True)
    # Without a readable clip there would be no score columns, or they would come last.
    width = (0,) if task.num_outputs == 1 else (0, task.num_outputs)
    names = score_columns(torch.zeros(width), task, metadata["threshold"], calibration_of(metadata))
    table = table.reindex(columns=["id", "path", *names, "problem"])
    _write(table, out)
    shutil.rmtree(parts)
    return table


def _score(
    clips: Sequence[Clip],
    reader: Any,
    student: torch.nn.Module,
    task: TaskSpec,
    metadata: dict[str, Any],
    device: torch.device,
    on_bad_clip: str,
) -> Iterator[dict[str, Any]]:
    from coefvq.data.media import UnreadableClip
    from coefvq.data.reader import collate

    samples, problems = [], {}
    for clip in clips:
        try:
            samples.append(reader.read(clip))
        except UnreadableClip as error:
            if on_bad_clip == "error":
                raise ValueError(
                    f"clip {clip.id} ({clip.path}) cannot be read: {error.reason}; repair or "
                    "remove it, or set on_bad_clip=skip"
                ) from error
            problems[clip.id] = str(error)
    columns: dict[str, list] = {}
    if samples:
        with torch.no_grad():
            logits = student(collate(samples).to(device).public()).logits.float().cpu()
        columns = score_columns(logits, task, metadata["threshold"], calibration_of(metadata))
    place = {sample.id: i for i, sample in enumerate(samples)}
    for clip in clips:
        values = {k: v[place[clip.id]] for k, v in columns.items()} if clip.id in place else {}
        problem = problems.get(clip.id, "")
        yield {"id": clip.id, "path": str(clip.path), **values, "problem": problem}


def _enter_parts(parts: Path, model: str | Path, clips: Sequence[Clip]) -> set[str]:
    """Make the folder of parts, or find what an earlier call of the same kind left there."""
    import hashlib

    weights = hashlib.sha256((Path(model) / "model.safetensors").read_bytes()).hexdigest()
    listing = "\n".join(str(dataclasses.asdict(clip)) for clip in clips)
    stamp = hashlib.sha256(f"{weights}\n{listing}".encode()).hexdigest()
    parts.mkdir(parents=True, exist_ok=True)
    stamp_file = parts / "stamp"
    if not stamp_file.exists():
        stamp_file.write_text(stamp)
    elif stamp_file.read_text() != stamp:
        raise ValueError(
            f"{parts} holds parts of another model or other clips; remove it or give another out"
        )
    done = [pandas.read_parquet(p, columns=["id"]) for p in sorted(parts.glob("*.parquet"))]
    return {name for table in done for name in table["id"]}


def _write(table: pandas.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name}, but no CUDA device is here; use device=cpu")
    return name


def _pair_line(cfg: DictConfig) -> str:
    from coefvq.predict_pair import judge_pair

    if cfg.query is None or cfg.candidate is None or cfg.clips is not None:
        raise ValueError("a pair is query= and candidate=, two video files, without clips=")
    texts = {"query_text": cfg.query_text, "candidate_text": cfg.candidate_text}
    device = _device(cfg.device)
    return judge_pair(cfg.model, cfg.query, cfg.candidate, **texts, device=device).line()


def listed(word: str) -> str:
    """Turn `compare=a.mp4,b.mp4` into a list, which Hydra would take for a sweep.

    >>> listed("compare=a.mp4,b c.mp4"), listed("batch_size=2")
    ('compare=["a.mp4","b c.mp4"]', 'batch_size=2')
    """
    name, _, value = word.partition("=")
    if name != "compare" or value.startswith("[") or value == "null":
        return word
    files = ",".join('"' + part.replace('"', '\\"') + '"' for part in value.split(","))
    return f"compare=[{files}]"


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="predict")
def _main(cfg: DictConfig) -> None:
    with config.one_sentence():
        words = {str(k): v for k, v in cfg.items()}
        if words.pop("query") is not None or cfg.candidate is not None:
            print(_pair_line(cfg))
            return
        if words.pop("compare") is not None:
            from coefvq.predict_compare import compare_files

            if cfg.clips is not None:
                raise ValueError("give compare=, two video files, or clips=, not both")
            print(compare_files(cfg.model, cfg.compare, device=_device(cfg.device)).lines())
            return
        for name in ("candidate", "query_text", "candidate_text"):
            del words[name]
        if cfg.clips is None:
            raise ValueError(
                "nothing to score: give clips=, a folder or a manifest, or for a pairwise student "
                "query= and candidate="
            )
        out = cfg.out
        try:
            table = predict(words.pop("model"), words.pop("clips"), **words)
        except KeyboardInterrupt:
            print("\ncoefvq: stopped; the same command goes on where it was", file=sys.stderr)
            raise SystemExit(130) from None
        for line in shown_lines(table):
            print(line)
        bad = int((table["problem"] != "").sum())
        print(f"{len(table)} clips in {out}" + (f", {bad} of them unreadable" if bad else ""))


if __name__ == "__main__":
    sys.argv[1:] = [listed(word) for word in sys.argv[1:]]
    config.read_words()
    _main()
