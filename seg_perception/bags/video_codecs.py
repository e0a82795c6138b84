"""What packets of a video tell before they are decoded: key frames, set-up, and missing packets.

A packet is one image, as foxglove_msgs/CompressedVideo and ffmpeg_image_transport send it: H.264
and H.265 in Annex B form, VP9 as one frame, AV1 as a temporal unit. Sources: ITU-T H.264
(7.3.2.1.1, 7.3.3, 7.4.3), H.265 (7.3.1.2), VP9 bitstream specification (6.2), AV1 (5.3, 7.5).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from seg_perception.errors import ImageError

START_CODE = re.compile(b"\0\0\1")
# Profiles of H.264 whose sequence parameter sets describe colour, too.
WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
SLICE_HEAD = 40  # bytes in which the number of a slice's image is


class PacketInfo(NamedTuple):
    """`is_key`: decoding may begin here, given a `setup`, which this packet may hold itself.

    `follows`: no packet is missing before it. `problem` is why it cannot be decoded at all.
    """

    is_key: bool
    setup: bytes = b""
    follows: bool = True
    problem: str = ""


class Codec(Protocol):
    """Reads the packets of one topic in their order; `decoder` is FFmpeg's name."""

    name: str
    decoder: str
    needs_setup: bool

    def read(self, packet: bytes) -> PacketInfo:
        """Return what a packet tells."""
        ...


def codec_of(encoding: str) -> Codec:
    """Return the codec of an encoding such as `h264`, `hevc_nvenc` or `libx264;yuv420p;...`.

    The words are those of formats and of FFmpeg's encoders. Raises ImageError for any other.
    """
    name = encoding.partition(";")[0].strip().lower()
    found = next((codec for words, codec in CODECS.items() if re.search(words, name)), None)
    if found is None:
        raise ImageError(f"video is {encoding[:40]!r}; record it as h264, h265, vp9 or av1")
    return found()


class H264:
    """H.264 numbers the images that others build on, so that a missing one is noticed."""

    name, decoder, needs_setup = "h264", "h264", True

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._numbers: _Numbers | None = None
        self._last: int | None = None

    def read(self, packet: bytes) -> PacketInfo:
        """Return what a packet tells; a key frame is an IDR or a point of recovery."""
        is_key, follows, setup, slices = False, True, b"", 0
        for unit in _units(packet):
            kind = unit[0] & 0x1F
            if kind == 7:
                self._numbers = _numbers(unit)
            if kind in (7, 8):
                setup += b"\0\0\0\1" + unit
            elif kind in (1, 5):
                is_key = is_key or kind == 5
                follows = follows if slices else self._follows(unit, is_idr=kind == 5)
                slices += 1
            elif kind == 6:
                is_key = is_key or unit[1:2] == b"\6"
        return PacketInfo(is_key, setup, follows, _problem(self.name, packet))

    def _follows(self, unit: bytes, *, is_idr: bool) -> bool:
        """Return whether an image's number follows the last one that others build on."""
        if self._numbers is None:
            return True
        try:
            number = self._numbers.read(unit)
        except ValueError:  # the decoder will not like it either
            return True
        last = self._last
        if unit[0] & 0x60:  # others build on it
            self._last = number
        if is_idr or last is None or self._numbers.gaps_allowed:
            return True
        return (number - last) % (1 << self._numbers.bits) <= 1


class H265:
    """H.265, whose decoder notices what is missing."""

    name, decoder, needs_setup = "h265", "hevc", True

    def read(self, packet: bytes) -> PacketInfo:
        """Return what a packet tells; a key frame is an IRAP image."""
        units = [(unit[0] >> 1 & 0x3F, unit) for unit in _units(packet)]
        setup = b"".join(b"\0\0\0\1" + unit for kind, unit in units if 32 <= kind <= 34)
        is_key = any(16 <= kind <= 21 for kind, _ in units)
        return PacketInfo(is_key, setup, problem=_problem(self.name, packet))


class VP9:
    """VP9; nothing in it tells of missing packets."""

    name, decoder, needs_setup = "vp9", "vp9", False

    def read(self, packet: bytes) -> PacketInfo:
        """Return what a packet tells by its first bits: marker, profile, show_existing_frame."""
        bits = _Bits(packet[:1])
        marker, profile = bits.take(2), bits.take(2)
        if profile == 3:
            bits.take(1)
        is_shown_again, is_inter = bits.take(1), bits.take(1)
        return PacketInfo(marker == 2 and not is_shown_again and not is_inter)


class AV1:
    """AV1; a key frame has a sequence header before it, and nothing tells of missing packets."""

    name, decoder, needs_setup = "av1", "libdav1d", False

    def read(self, packet: bytes) -> PacketInfo:
        """Return what a packet tells by the types of its units (OBU)."""
        at = 0
        while at < len(packet):
            head = packet[at]
            if head >> 3 & 0xF == 1:
                return PacketInfo(is_key=True)
            at += 2 if head & 4 else 1
            if not head & 2:  # the last one, without its size
                break
            size, shift = 0, 0
            for byte in packet[at : at + 8]:
                size, shift, at = size | (byte & 0x7F) << shift, shift + 7, at + 1
                if byte < 0x80:
                    break
            at += size
        return PacketInfo(is_key=False)


# By the words of formats and encoders: libx264, h264_vaapi, hevc_nvenc, libvpx-vp9, librav1e ...
CODECS: dict[str, type[H264 | H265 | VP9 | AV1]] = {
    "264": H264,
    "265|hevc": H265,
    "vp9": VP9,
    "av1": AV1,
}


class _Bits:
    """Reads bits, first the highest, of bytes that may hold H.264's emulation prevention."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits; ValueError where there are no more."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the bits have come to their end")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """Return the next number in Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """Return the next number in signed Exp-Golomb code (9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -code // 2


class _Numbers(NamedTuple):
    """How slices tell the number of their image (frame_num)."""

    bits: int
    has_planes: bool  # each colour has slices of its own
    gaps_allowed: bool

    def read(self, unit: bytes) -> int:
        """Return the number in the header of a slice; ValueError where it is cut."""
        bits = _Bits(unit[1:SLICE_HEAD])
        for _ in ("first macroblock", "kind", "parameter set"):
            bits.golomb()
        bits.take(2 if self.has_planes else 0)
        return bits.take(self.bits)


def _numbers(unit: bytes) -> _Numbers | None:
    """Return what a sequence parameter set of H.264 says of numbers; None where it is cut."""
    bits = _Bits(unit[1:])
    try:
        profile = bits.take(8)
        bits.take(16)
        bits.golomb()
        has_planes = _skip_chroma(bits) if profile in WITH_CHROMA else False
        size = bits.golomb() + 4
        _skip_order(bits)
        bits.golomb()
        return _Numbers(size, has_planes, bool(bits.take(1)))
    except ValueError:
        return None


def _skip_chroma(bits: _Bits) -> bool:
    """Pass over the description of colour; return separate_colour_plane_flag."""
    chroma = bits.golomb()
    has_planes = bool(bits.take(1)) if chroma == 3 else False
    bits.golomb()
    bits.golomb()
    bits.take(1)
    if bits.take(1):
        for at in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling(bits, 16 if at < 6 else 64)
    return has_planes


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_order(bits: _Bits) -> None:
    """Pass over pic_order_cnt_type and what belongs to it."""
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.golomb()):
            bits.signed()


def _units(packet: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a packet in Annex B form."""
    ends = [match.span() for match in START_CODE.finditer(packet)]
    for at, (_, begin) in enumerate(ends):
        end = ends[at + 1][0] if at + 1 < len(ends) else len(packet)
        if begin < end:
            yield packet[begin:end]


def _problem(name: str, packet: bytes) -> str:
    if START_CODE.search(packet):
        return ""
    return f"the packet has no start code; {name} is read in Annex B form alone"
