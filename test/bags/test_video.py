"""Videos play back whole, or are not there."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from seg_perception.bags.video import write_video
from seg_perception.errors import DataError


def test_video_plays_back_with_its_rate_and_images(tmp_path: Path) -> None:
    images = [np.full((33, 48, 3), 20 * i, np.uint8) for i in range(10)]
    assert write_video(tmp_path / "v.mp4", iter(images), rate=15) == 10
    with av.open(str(tmp_path / "v.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 15
        decoded = [frame.to_ndarray(format="bgr24") for frame in video.decode(stream)]
    assert len(decoded) == 10
    # The codec may lose something, but each image is nearest to the one that was written.
    assert [round(float(image.mean()) / 20) for image in decoded] == list(range(10))


def test_the_index_stands_in_front(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [np.zeros((32, 48, 3), np.uint8)] * 3, rate=15)
    content = (tmp_path / "v.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_an_error_on_the_way_leaves_the_old_video(tmp_path: Path) -> None:
    def images() -> Iterator[np.ndarray]:
        yield np.zeros((32, 48, 3), np.uint8)
        raise DataError("the bag is damaged")

    (tmp_path / "v.mp4").write_text("the video before")
    with pytest.raises(DataError, match="the bag is damaged"):
        write_video(tmp_path / "v.mp4", images(), rate=15)
    with pytest.raises(DataError, match=r"no images for .*v\.mp4"):
        write_video(tmp_path / "v.mp4", [], rate=15)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["the video before"]
