"""A video topic, decoded packet by packet through PyAV (FFmpeg).

Decoding begins at a key frame. A packet that the decoder calls damaged ends it until the next key
frame, and so does a missing one: H.264 numbers its images, and the decoder of H.265 knows what an
image builds on. Nothing tells of it in VP9 and AV1.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from seg_perception.bags.video_codecs import codec_of
from seg_perception.errors import ImageError
from seg_perception.images import ENCODINGS, DecodedImage, encoding_of

MOST_REORDERED = 32  # images; H.264 and H.265 allow 16
# Damage is an error, not an image with holes.
STRICT = {"err_detect": "explode"}
# Formats of FFmpeg whose first plane may be an image of one channel: ffmpeg_encoder_decoder packs
# mono8 and mosaics so.
LUMA = ("gray", "nv12", "yuv420p", "yuvj420p")
NO_KEY = "the video has no key frame before it"
AFTER_DAMAGE = "the video is damaged here: it goes on at the next key frame"
MISSING = "packets are missing before it: the video goes on at the next key frame"
EMPTY = "the packet is empty"
NO_IMAGE = "the decoder gave no image of it"


class Decoded(NamedTuple):
    """What became of a packet: its number, and FFmpeg's frame or why there is none."""

    number: int
    frame: Any
    problem: str = ""


class VideoStream:
    """Decode the packets of one topic; every packet comes out once, images in display order."""

    def __init__(self, encoding: str) -> None:
        """Find the decoder of an encoding such as `h264`, `hevc_nvenc` or `libx264;yuv420p;...`.

        Raises ImageError for another, and where this FFmpeg lacks it.
        """
        self._codec = codec_of(encoding)
        self._channel = _single_channel(encoding)
        self._setup = b""  # the last that a packet held
        self._waiting: list[int] = []  # packets whose images have not come
        self._problem = NO_KEY
        self._context = self._new()

    def push(self, number: int, packet: bytes) -> Iterator[Decoded]:
        """Yield what is known now of this packet and of those that waited."""
        if not packet:  # to the decoder this is the end of the video
            yield Decoded(number, None, EMPTY)
            return
        info = self._codec.read(packet)
        self._setup = info.setup or self._setup
        if not info.follows and not self._problem:
            yield from self._end(MISSING)
        if self._problem:
            if not info.is_key or (self._codec.needs_setup and not self._setup):
                yield Decoded(number, None, info.problem or self._problem)
                return
            packet = packet if info.setup else self._setup + packet
            self._problem = ""
        self._waiting.append(number)
        coded = av.Packet(packet)
        coded.pts = number
        yield from self._decode(coded)
        if len(self._waiting) > MOST_REORDERED:
            yield Decoded(self._waiting.pop(0), None, NO_IMAGE)

    def flush(self) -> Iterator[Decoded]:
        """Yield what the decoder held back, at the end of a topic."""
        if not self._problem:
            yield from self._end(NO_KEY, NO_IMAGE)

    def image(self, frame: Any) -> DecodedImage:
        """Return the image of a frame; ImageError for a mosaic that was turned into colours."""
        if self._channel and frame.format.name in LUMA:
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            return DecodedImage(rows[: frame.height, : frame.width].copy(), self._channel)
        if self._channel.startswith("bayer"):
            raise ImageError(f"a mosaic {self._channel} in {frame.format.name} cannot be read")
        return DecodedImage(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), "bgr8")

    def _decode(self, coded: Any) -> Iterator[Decoded]:
        try:
            frames = self._context.decode(coded)
        except av.FFmpegError:
            yield from self._end(AFTER_DAMAGE, broken=coded.pts)
            return
        for frame in frames:
            if frame.is_corrupt:
                yield from self._end(AFTER_DAMAGE, broken=frame.pts)
                return
            yield from self._came(frame)

    def _came(self, frame: Any) -> Iterator[Decoded]:
        if frame.pts in self._waiting:
            self._waiting.remove(frame.pts)
            yield Decoded(frame.pts, frame)

    def _end(self, problem: str, said: str = "", broken: int | None = None) -> Iterator[Decoded]:
        """Give out what came before, then wait for a key frame with a new decoder.

        What never comes is `said` to have a problem of its own, or `problem`.
        """
        try:
            held = self._context.decode(None)
        except av.FFmpegError:
            held = []
        for frame in held:
            if not frame.is_corrupt and frame.pts != broken:
                yield from self._came(frame)
        for number in self._waiting:
            yield Decoded(number, None, said or problem)
        self._waiting.clear()
        self._problem, self._context = problem, self._new()

    def _new(self) -> Any:
        name, decoder = self._codec.name, self._codec.decoder
        try:
            context = av.CodecContext.create(decoder, "r")
        except (av.FFmpegError, ValueError) as error:
            raise ImageError(
                f"this PyAV has no decoder {decoder} of {name} ({error}); install another build of "
                "av, or record h264"
            ) from error
        context.thread_count = 1  # more hold images back
        context.options = STRICT
        return context


def _single_channel(encoding: str) -> str:
    """Return the encoding whose only channel a video holds as brightness, or nothing.

    `codec;FFmpeg's format;ROS's encoding before it;...`: of one channel, it was not converted.
    Raises ImageError for mosaics that are not known.
    """
    name = [*encoding.split(";"), "", ""][2]
    if name.startswith("bayer"):
        encoding_of(name)
    known = ENCODINGS.get(name)
    return name if known and known.channels == 1 and not known.chroma else ""
