"""Label images, videos and cameras: overlays for people, masks and class shares for programs."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag_files import is_bag
from seg_perception.bags.frames import Frame, ahead, decoded
from seg_perception.bags.sources import IMAGE_KINDS, FileSource, FolderSource, VideoSource
from seg_perception.bags.video import frame_rate, write_video
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError, ImageError, UsageError
from seg_perception.files import atomic_write, check_output
from seg_perception.labels import LabelSpace, class_shares
from seg_perception.segmenter import Segmenter

CAMERA_RATE_HZ = 15.0  # of the video of a camera that does not tell its own
JPEG_QUALITY = 92
BAG_KINDS = (".mcap", ".db3", ".bag", ".zstd")
SHEET_IMAGES, SHEET_COLUMNS, SHEET_WIDTH = 12, 3, 480  # images, images a row, pixels an image

Image = NDArray[np.uint8]


class Predicted(NamedTuple):
    """What a network sees in one image.

    `size` is (height, width) in pixels. `shares` holds the share of all pixels of each class in
    it, 0..1, by name; where some are unknown the sum is below 1. `overlay` and `mask` are the
    files that were written.
    """

    source: str
    name: str
    size: tuple[int, int]
    shares: dict[str, float]
    overlay: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Outputs:
    """What is written: overlays into `folder` (None: nothing), `masks` of ids, in `color` or not.

    `on_predicted` is called with every image that has labels and its overlay, BGR (H,W,3),
    `on_unreadable` with the reason why one has none.
    """

    folder: Path | None = None
    masks: bool = False
    color: bool = False
    on_predicted: Callable[[Predicted, Image], None] = lambda predicted, overlay: None
    on_unreadable: Callable[[str], None] = lambda reason: None


class CameraSource:
    """The images of a camera that Linux knows, such as /dev/video0, until `is_over`."""

    total = None
    damage = ""

    def __init__(self, path: Path, is_over: Callable[[], bool]) -> None:
        """Open it; DataError where that fails."""
        self.name, self._is_over = str(path), is_over
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DataError(
                f"{path} cannot be opened as a camera: look which there are (ls /dev/video*), "
                "whether another program uses it, and whether you may read it (group video)"
            )

    @property
    def rate(self) -> float:
        """Return the images a second that the camera tells, or a usual number, in Hz."""
        return float(self._capture.get(cv2.CAP_PROP_FPS)) or CAMERA_RATE_HZ

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the images as they come, named by numbers of six digits."""
        count = 0
        try:
            while not self._is_over():
                is_there, image = self._capture.read()
                if not is_there:
                    self.damage = f"{self.name} gave no more images after {count}"
                    return
                yield Frame(f"{count:06d}", partial(np.asarray, image, np.uint8))
                count += 1
        finally:
            self._capture.release()


class _Opened(NamedTuple):
    """A source; its images are named `prefix` + key. `rate` in Hz where they are a video."""

    source: Any
    prefix: str
    rate: float = 0.0


def predict(
    segmenter: Segmenter, paths: Sequence[Path], outputs: Outputs, *, is_over: Callable[[], bool]
) -> list[str]:
    """Label every image of the files, folders, videos and cameras; return what sources lack.

    Overlays go to folder/NAME.jpg, those of a video to folder/NAME.mp4, masks of ids uint8 (H,W),
    255 unknown, to folder/NAME.png. Ends early when `is_over`. Raises DataError or UsageError,
    before anything is written, for a source that cannot be opened or names that collide.
    """
    opened = [_open(path, is_over) for path in paths]
    _check_names(opened, outputs)
    damage = []
    for each in opened:
        overlays = _label(segmenter, each, outputs, is_over)
        if each.rate and outputs.folder is not None:
            name = each.prefix.rstrip("_")
            outputs.folder.mkdir(parents=True, exist_ok=True)
            write_video(outputs.folder / f"{name}.mp4", overlays, rate=each.rate)
        else:
            for _ in overlays:
                pass
        damage += [each.source.damage] if each.source.damage else []
    return damage


class ContactSheet:
    """The first overlays, small, on one image."""

    def __init__(self) -> None:
        """Start empty."""
        self._cells: list[Image] = []

    def add(self, overlay: Image) -> None:
        """Add an overlay, BGR (H,W,3), while there is room."""
        if len(self._cells) < SHEET_IMAGES:
            height = max(1, round(overlay.shape[0] * SHEET_WIDTH / overlay.shape[1]))
            small = cv2.resize(overlay, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA)
            self._cells.append(np.asarray(small, np.uint8))

    def write(self) -> Path | None:
        """Write it into a new temporary folder and return its path; None where it is empty."""
        if not self._cells:
            return None
        rows = [
            self._cells[i : i + SHEET_COLUMNS] for i in range(0, len(self._cells), SHEET_COLUMNS)
        ]
        columns = min(len(self._cells), SHEET_COLUMNS)
        heights = [max(cell.shape[0] for cell in row) for row in rows]
        sheet = np.zeros((sum(heights), columns * SHEET_WIDTH, 3), np.uint8)
        for top, row in zip(np.cumsum([0, *heights]), rows, strict=False):
            for at, cell in enumerate(row):
                left = at * SHEET_WIDTH
                sheet[top : top + cell.shape[0], left : left + SHEET_WIDTH] = cell
        path = Path(tempfile.mkdtemp(prefix="seg_perception_")) / "contact_sheet.jpg"
        _write_image(path, sheet)
        return path


def _open(path: Path, is_over: Callable[[], bool]) -> _Opened:
    if path.is_char_device():
        camera = CameraSource(path, is_over)
        return _Opened(camera, f"{path.name}_", camera.rate)
    if not path.exists():
        raise DataError(f"there is no {path}; give images, folders, videos or /dev/videoN")
    if path.suffix in BAG_KINDS or (path.is_dir() and is_bag(path)):
        raise UsageError(f"{path} is a bag: seg-perception label {path} -o OUT.mcap")
    if path.is_dir():
        return _Opened(FolderSource(path), "")
    if path.suffix.lower() in IMAGE_KINDS:
        return _Opened(FileSource(path), "")
    return _Opened(VideoSource(path), f"{path.stem}_", frame_rate(path))


def _check_names(opened: Iterable[_Opened], outputs: Outputs) -> None:
    """Raise UsageError where two sources would write one file, or one would write over another."""
    taken: dict[str, str] = {}
    for source, prefix, rate in opened:
        names = [prefix] if rate else [str(frame.key) for frame in source.frames()]
        for name in names:
            if name in taken:
                raise UsageError(
                    f"{taken[name]} and {source.name} both hold {name.rstrip('_')}; give them one "
                    "after the other, each with a folder of its own (-o)"
                )
            taken[name] = source.name
            if outputs.folder is None:
                continue
            ends = (".mp4",) if rate else (".jpg", *((".png",) if outputs.masks else ()))
            for end in ends:
                file = outputs.folder / f"{name.rstrip('_')}{end}"
                check_output(file, sources=_files_of(source))


def _files_of(source: Any) -> tuple[Path, ...]:
    """Return the files that a source reads."""
    path = Path(source.name)
    return tuple(path.iterdir()) if path.is_dir() else (path,)


def _label(
    segmenter: Segmenter, opened: _Opened, outputs: Outputs, is_over: Callable[[], bool]
) -> Iterator[Image]:
    """Yield the overlay of each image, when all else of it is written."""
    space = segmenter.space
    with closing(_frames(opened.source)) as frames:
        for frame in frames:
            if is_over():
                return
            name = f"{opened.prefix}{frame.key}"
            try:
                image = frame.image
                labels = segmenter(image, "bgr8", confidence=False).labels
            except ImageError as error:
                outputs.on_unreadable(f"{opened.source.name}: {error}")
                continue
            overlay = draw_overlay(image, labels, space)
            files = _write(name, labels, overlay, space, outputs, is_video=opened.rate > 0)
            size = (labels.shape[0], labels.shape[1])
            predicted = Predicted(opened.source.name, name, size, _shares(labels, space), *files)
            outputs.on_predicted(predicted, overlay)
            yield overlay


def _frames(source: Any) -> Generator[Frame, None, None]:
    """Yield the frames of a source, decoded ahead: but for a camera, whose images would age."""
    frames = source.frames()
    return frames if isinstance(source, CameraSource) else ahead(decoded(frames))


def _write(
    name: str, labels: Image, overlay: Image, space: LabelSpace, outputs: Outputs, *, is_video: bool
) -> tuple[str | None, str | None]:
    """Write what belongs to one image; return the paths of its overlay and its mask."""
    if outputs.folder is None:
        return None, None
    drawn: Path | None = None
    mask: Path | None = None
    if not is_video:
        drawn = outputs.folder / f"{name}.jpg"
        _write_image(drawn, overlay)
    if outputs.masks:
        mask = outputs.folder / f"{name}.png"
        _write_palette(mask, labels, space) if outputs.color else _write_image(mask, labels)
    return str(drawn) if drawn else None, str(mask) if mask else None


def _write_image(path: Path, image: Image) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    data = cv2.imencode(path.suffix, image, options)[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _write_palette(path: Path, labels: Image, space: LabelSpace) -> None:
    """Write a PNG whose pixels are ids, and whose palette holds the colours of the classes."""
    from PIL import Image as Pillow

    image = Pillow.fromarray(labels).convert("P")
    image.putpalette(space.colours.astype(np.uint8).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def _shares(labels: Image, space: LabelSpace) -> dict[str, float]:
    shares = class_shares(labels, classes=len(space.names))[0, 0]
    return {name: float(shares[i]) for i, name in space.class_map() if shares[i] > 0}
