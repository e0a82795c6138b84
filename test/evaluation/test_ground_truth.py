"""Truth in files of every kind, and opinions of teachers, are taken for what they say."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.recordings import write_images

from seg_perception.evaluation.ground_truth import read_labels
from seg_perception.segmenter import Segmenter

Make = Callable[..., Path]

Evaluate = Callable[..., tuple[int, Any, str]]


def grey_png(ids: np.ndarray, bits: int) -> bytes:
    """Return a PNG of so many bits a sample; rows must fill whole bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    height, width = ids.shape
    places = ids.reshape(height, -1, 8 // bits) << np.arange(8 - bits, -1, -bits)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in places.sum(axis=2))
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_are_those_of_the_file_whatever_its_bits_a_sample(tmp_path: Path, bits: int) -> None:
    ids = np.random.default_rng(bits).integers(0, 2**bits, (5, 16)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(grey_png(ids, bits))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", None), ids)


def test_image_encodings_of_any_name_are_evaluated(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Evaluate
) -> None:
    images, labels = tmp_path / "p", tmp_path / "l"
    for folder, pixels in ((images, halves[..., ::-1]), (labels, halves[..., 2] // 125)):
        folder.mkdir()
        data = cv2.imencode(".png", pixels)[1].tobytes()
        for name in ("straße [red] 日本.png".encode(), b"caf\xe9.png"):  # the second is no UTF-8
            with open(os.path.join(os.fsencode(folder), name), "wb") as file:
                file.write(data)
    status, report, _ = evaluate("--model", make_model(), "--images", images, "--labels", labels)
    assert (status, report["frames_scored"], report["miou"]) == (0, 2, 1.0)
    assert "straße [red] 日本" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_what_a_teacher_does_not_know_is_void(
    make_model: Make, tmp_path: Path, evaluate: Evaluate
) -> None:
    image = np.random.default_rng(4).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    images = write_images(tmp_path / "p", image)
    teacher, model = make_model("teacher.onnx"), make_model(void_ids=[2])
    sure = Segmenter.load(teacher)(image, "rgb8", min_confidence=0.9).labels
    assert 0 < (sure == 255).sum() < sure.size
    status, report, _ = evaluate("--model", teacher, "--images", images, "--void", "1",
                                 "--teacher", f"{teacher},min_confidence=0.9")  # fmt: skip
    assert status == 0
    assert report["void_ids"] == [1, 255]
    assert np.sum(report["confusion_matrix"][3]) == np.isin(sure, (1, 255)).sum()
    status, report, _ = evaluate("--model", teacher, "--images", images, "--teacher", model)
    assert (status, report["agreement_with"]["miou"]) == (0, 1.0)


def test_calibration_of_labels_without_confidence_is_refused(
    make_model: Make, halves: np.ndarray, tmp_path: Path, evaluate: Evaluate
) -> None:
    images = write_images(tmp_path / "p", halves)
    labels = write_images(tmp_path / "l", halves[..., 2] // 125)
    argmax = make_model("argmax.onnx", output={"kind": "labels"})
    status, _, said = evaluate("--model", make_model(), "--model", argmax, "--images", images,
                               "--labels", labels, "--measure", "calibration")  # fmt: skip
    assert status == 1
    assert "gives labels without confidence, so there is nothing to measure calibration of" in said
