"""seg-perception predict: images and videos in, overlays, masks and shares of classes out."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_perception import cli
from seg_perception.bags.video import read_video, write_video
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError
from seg_perception.predict import JPEG_QUALITY, SHEET_WIDTH, CameraSource
from seg_perception.segmenter import Segmenter

Make = Callable[..., Path]
Said = pytest.CaptureFixture[str]


def stripes(red: int) -> np.ndarray:
    """Return (32,48,3) BGR: `red` columns of red, the rest blue."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :red, 2] = image[:, red:, 0] = 200
    return image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, red in (("a", 12), ("b", 36)):
        cv2.imwrite(str(folder / f"{name}.png"), stripes(red))
    return folder


def test_the_network_runs_at_the_size_that_is_asked_for(
    images: Path, make_model: Make, tmp_path: Path
) -> None:
    card = {"size": [32, 48], "layout": "NHWC", "color": "RGB", "dtype": "uint8", "multiple": 8}
    model, masks = make_model(input=card), {}
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    cv2.imwrite(str(images / "c.png"), noise)
    command = ["predict", str(images), "--model", str(model), "--masks"]
    for size in ("auto", "8x48", "16x16"):
        out = tmp_path / size
        assert cli.main([*command, "--input-size", size, "-o", str(out)]) == 0
        masks[size] = cv2.imread(str(out / "c.png"), cv2.IMREAD_UNCHANGED)
        segmenter = Segmenter.load(model, input_size=size)
        assert (masks[size] == segmenter(noise, "bgr8").labels).all()
    assert (masks["auto"] != masks["16x16"]).any()
    assert cli.main([*command, "--input-size", "9x16", "-o", str(tmp_path / "no")]) == 1


def test_a_folder_gives_overlays_masks_and_the_shares_of_classes(
    images: Path, make_model: Make, tmp_path: Path, capsys: Said
) -> None:
    model, out = make_model(), tmp_path / "out"
    assert cli.main(["predict", str(images), "--model", str(model), "-o", str(out), "--masks"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg", "a.png", "b.jpg", "b.png"]
    segmenter = Segmenter.load(model)
    for name, red in (("a", 12), ("b", 36)):
        labels = segmenter(stripes(red), "bgr8").labels
        mask = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert (mask == labels).all()
        drawn = draw_overlay(stripes(red), labels, segmenter.space)
        data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        assert (out / f"{name}.jpg").read_bytes() == data.tobytes()
    rows = [re.findall(r"[\w.]+", line) for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if len(row) == 3][1:] == [
        ["red", "50.0", "2"],
        ["blue", "50.0", "2"],
    ]


def test_json_is_a_line_for_each_image(
    images: Path, make_model: Make, tmp_path: Path, capsys: Said
) -> None:
    files = [str(images / "a.png"), str(images / "b.png")]
    assert cli.main(["predict", *files, "--model", str(make_model()), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == ["a", "b"]
    assert [line["source"] for line in lines] == files
    assert lines[0]["size"] == [32, 48]
    assert lines[0]["shares"] == pytest.approx({"red": 0.25, "blue": 0.75})
    assert lines[0]["overlay"] is None


def test_masks_in_color_hold_ids_and_a_palette(
    images: Path, make_model: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(images / "a.png"), "--model", str(make_model()), "-o", str(out)]
    assert cli.main([*command, "--masks", "--color"]) == 0
    mask = Image.open(out / "a.png")
    assert mask.mode == "P"
    assert sorted(np.unique(np.asarray(mask))) == [0, 2]
    assert mask.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]


def test_a_video_becomes_a_video_and_a_mask_for_each_frame(
    make_model: Make, tmp_path: Path, capsys: Said
) -> None:
    video, out = tmp_path / "drive.mp4", tmp_path / "out"
    write_video(video, [stripes(24)] * 5, rate=12)
    command = ["predict", str(video), "--model", str(make_model()), "-o", str(out), "--masks"]
    assert cli.main([*command, "--json"]) == 0
    names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert names == [f"drive_{i:06d}" for i in range(5)]
    assert sorted(p.name for p in out.iterdir()) == ["drive.mp4", *(f"{n}.png" for n in names)]
    assert len(list(read_video(out / "drive.mp4"))) == 5


def test_without_a_folder_a_contact_sheet_is_written(
    images: Path, make_model: Make, capsys: Said
) -> None:
    assert cli.main(["predict", str(images), "--model", str(make_model())]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("open "))
    sheet = cv2.imread(str(path))
    assert sheet.shape[:2] == (320, 2 * SHEET_WIDTH)
    path.unlink()
    path.parent.rmdir()


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_labelled(
    images: Path, make_model: Make, tmp_path: Path, capsys: Said
) -> None:
    (images / "c.png").write_bytes((images / "a.png").read_bytes()[:40])
    out = tmp_path / "out"
    assert cli.main(["predict", str(images), "--model", str(make_model()), "-o", str(out)]) == 1
    assert "c.png cannot be read: truncated, or not an image" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg", "b.jpg"]


def test_what_cannot_work_is_told_before_anything_is_written(
    images: Path, make_model: Make, tmp_path: Path, capsys: Said
) -> None:
    twice = tmp_path / "more"
    twice.mkdir()
    cv2.imwrite(str(twice / "a.jpg"), stripes(3))
    (tmp_path / "b.mcap").write_bytes(b"")
    model, out = ["--model", str(make_model())], str(tmp_path / "out")
    for arguments, status, message in (
        ([str(images), str(twice), "-o", out], 2, "both hold a; give them one after the other"),
        ([str(images / "none.png")], 1, "there is no .*none.png; give images, folders"),
        ([str(tmp_path / "b.mcap")], 2, "is a bag: seg-perception label"),
        ([str(images), "-o", str(images), "--masks"], 1, "a.png is what would be read"),
        ([str(images), "--masks"], 2, "--masks and --color go with -o OUT"),
        ([str(images), "-o", out, "--color"], 2, "--color is of masks; give --masks"),
        ([str(make_model("text.mp4"))], 1, "text.mp4 cannot be read as a video"),
    ):
        assert cli.main(["predict", *arguments, *model]) == status, message
        assert re.search(message, capsys.readouterr().err), message
    assert not Path(out).exists()
    assert sorted(p.name for p in images.iterdir()) == ["a.png", "b.png"]


def test_a_camera_is_read_until_it_is_over(tmp_path: Path) -> None:
    """OpenCV reads a video file as it reads a camera."""
    video = tmp_path / "camera.mp4"
    write_video(video, [stripes(24)] * 6, rate=12)
    seen: list[str] = []
    camera = CameraSource(video, lambda: len(seen) == 4)
    for frame in camera.frames():
        seen.append(str(frame.key))
        assert frame.image.shape == (32, 48, 3)
    assert seen == [f"{i:06d}" for i in range(4)]
    assert camera.damage == ""
    short = CameraSource(video, lambda: False)
    assert len(list(short.frames())) == 6
    assert "gave no more images after 6" in short.damage
    with pytest.raises(DataError, match="video9 cannot be opened as a camera: look which there"):
        CameraSource(Path("/dev/video9"), lambda: False)


def test_a_reader_that_goes_away_causes_no_traceback(images: Path, make_model: Make) -> None:
    command = [sys.executable, "-m", "seg_perception.cli", "predict", str(images), "--json"]
    process = subprocess.Popen(
        [*command, "--model", str(make_model())], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
