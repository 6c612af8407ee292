import pytest

from coefvq.data.clip_list import list_clips
from coefvq.data.manifest import ManifestError


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read here")


def test_a_folder_is_every_video_below_it_sorted(tmp_path):
    files(tmp_path, "b.mp4", "a/z.MKV", "a/b.webm", "notes.txt", "a/.hidden", "c.csv")
    clips = list_clips(tmp_path)
    assert [clip.id for clip in clips] == ["a/b.webm", "a/z.MKV", "b.mp4"]
    assert all(clip.path.is_absolute() and clip.path.exists() for clip in clips)
    assert all(clip.text == {} and clip.label is None and not clip.privileged for clip in clips)


def test_a_video_file_is_a_clip(tmp_path):
    files(tmp_path, "a/one.MP4")
    (clip,) = list_clips(tmp_path / "a" / "one.MP4")
    assert (clip.id, clip.path, clip.text) == ("one.MP4", tmp_path / "a" / "one.MP4", {})


def test_a_manifest_gives_ids_paths_and_the_texts_asked_for(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,path,title,label,secret\nx,clips/1.mp4,A cat,1,9\ny,clips/2.mp4,,0,8\n"
    )
    first, second = list_clips(tmp_path / "list.csv", text=("title", "overlay"))
    assert first.id == "x" and first.path == tmp_path / "clips" / "1.mp4"
    assert first.text == {"title": "A cat", "overlay": ""}
    assert second.text == {"title": "", "overlay": ""}
    assert first.label is None and not first.privileged


def test_paths_start_at_the_root_that_is_given(tmp_path):
    (tmp_path / "list.csv").write_text("id,path\nx,1.mp4\n")
    (clip,) = list_clips(tmp_path / "list.csv", root=tmp_path / "elsewhere")
    assert clip.path == tmp_path / "elsewhere" / "1.mp4"


def test_a_missing_file_is_no_problem_yet(tmp_path):
    (tmp_path / "list.csv").write_text("id,path\nx,gone.mp4\n")
    assert not list_clips(tmp_path / "list.csv")[0].path.exists()


def test_all_problems_of_a_manifest_are_listed(tmp_path):
    (tmp_path / "list.csv").write_text("id,path\nx,1.mp4\nx,2.mp4\n,3.mp4\ny,../../up.mp4\n")
    with pytest.raises(ManifestError) as caught:
        list_clips(tmp_path / "list.csv")
    assert len(caught.value.problems) == 3
    assert all(word in str(caught.value) for word in ("row 2", "row 3", "row 4"))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("gone", None, "does not exist; give a folder of clips, a video file or a manifest"),
        ("empty.csv", "id,path\n", "has no row|cannot be read"),
        ("columns.csv", "name,path\nx,1.mp4\n", "has no column id; its columns are name, path"),
    ],
)
def test_what_cannot_be_listed_is_said(tmp_path, name, text, sentence):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        list_clips(tmp_path / name)


def test_a_file_of_another_kind_is_said(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"a.gif is neither a video file \(.mp4, .*\) nor a manif"):
        list_clips(tmp_path / "a.gif")


def test_a_folder_without_videos_is_said(tmp_path):
    files(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"holds no video file \(\.mp4"):
        list_clips(tmp_path)


def test_texts_that_are_not_there_are_said_where_a_model_reads_them(tmp_path, caplog):
    (tmp_path / "a.mp4").write_bytes(b"")
    list_clips(tmp_path, for_model=True)
    list_clips(tmp_path, text=("title", "caption"))
    assert not caplog.messages
    list_clips(tmp_path, text=("title", "caption"), for_model=True)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the model reads title, caption, and clips=")
    assert caplog.messages[0].endswith("give a manifest with the columns id, path, title, caption")
    list_clips(tmp_path / "a.mp4", text=("title",), for_model=True)
    assert "is a video, which has no texts" in caplog.messages[1]
    caplog.clear()
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,path,title\na,a.mp4,words\n")
    list_clips(manifest, text=("title",), for_model=True)
    assert not caplog.messages
    list_clips(manifest, text=("title", "caption"), for_model=True)
    assert len(caplog.messages) == 1 and "reads caption, and" in caplog.messages[0]
