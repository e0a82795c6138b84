"""Videos: H.264 that a browser plays is written, everything that PyAV knows is read."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError

FAULTS = (av.FFmpegError, OSError, IndexError)  # the last where a file has no video stream
USUAL_RATE_HZ = 25.0  # of a video that does not tell it


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], *, rate: float) -> int:
    """Write uint8 BGR images (H,W,3) of one size as mp4 at `rate` Hz; return how many.

    Odd sizes lose their last row or column, which H.264 cannot hold. The index stands in front,
    so that playing begins before the file is loaded; the file is renamed into place when whole.
    Raises DataError when there are no images.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        count = _write(temporary, images, rate)
        if not count:
            raise DataError(f"no images for {path}; nothing was written")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(path: Path, images: Iterable[NDArray[np.uint8]], rate: float) -> int:
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "fast"}
        for image in images:
            height, width = (s // 2 * 2 for s in image.shape[:2])
            if not count:
                stream.height, stream.width = height, width
            cropped = np.ascontiguousarray(image[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cropped, format="bgr24")))
            count += 1
        if count:
            container.mux(stream.encode(None))
    return count


def count_frames(path: Path) -> int | None:
    """Return how many images a video says that it holds, None when it does not say.

    Raises DataError for a file that is no video.
    """
    try:
        with _open(path) as container:
            return int(container.streams.video[0].frames) or None
    except FAULTS as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error


def frame_rate(path: Path) -> float:
    """Return the images a second of a video, in Hz; DataError for a file that is no video."""
    try:
        with _open(path) as container:
            return float(container.streams.video[0].average_rate or USUAL_RATE_HZ)
    except FAULTS as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error


def read_video(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a video, BGR uint8 (H,W,3), as they are shown.

    Raises DataError for a file that is no video, and where it is damaged.
    """
    try:
        with _open(path) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    except FAULTS as error:
        raise DataError(f"{path} cannot be read as a video: {error}") from error


def _open(path: Path) -> Any:
    """Open a file, and nothing else: FFmpeg takes a name such as http:x for an address."""
    return av.open(f"file:{path}")
