"""Map a bag: images, their labels, and the ground around the robot, without ROS."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.bags.bag import BagReader, deserialize
from seg_perception.bags.bag_topics import (
    CAMERA_INFO,
    camera_info_beside,
    choose_image_topic,
    find_camera_info,
)
from seg_perception.bags.frames import Frame, Part, ahead, bag_parts, decoded_parts
from seg_perception.bags.video import write_video
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError, GeometryError, ImageError
from seg_perception.manifest import Manifest
from seg_perception.nav2.costmap import Costmap
from seg_perception.occupancy.camera import Camera, Pose
from seg_perception.occupancy.mapper import LabelFrame, Mapper, PoseSource, StillCamera
from seg_perception.occupancy.settings import Settings
from seg_perception.offline.bag_poses import BagPoses
from seg_perception.offline.birdseye import Image, View, draw_costmap, draw_map
from seg_perception.offline.placement import Placement
from seg_perception.segmenter import Segmenter

RATE = 15.0  # Hz of a video whose bag has a single image


class Topics(NamedTuple):
    """The images of a bag and their calibration."""

    image: str
    camera_info: str


class Mapped(NamedTuple):
    """What came out: images in the map, and why others are not in it, with their number.

    `sources` says where camera and robot come from, `warnings` what is doubtful about that.
    """

    images: int
    skipped: dict[str, int]
    sources: str
    warnings: list[str]


def map_bag(
    bag: Path,
    segmenter: Segmenter,
    placement: Placement,
    out: Path,
    *,
    settings: Settings,
    image_topic: str | None = None,
    costmap: Costmap | None = None,
) -> Mapped:
    """Write out/map.mp4, the overlay next to the map from above, and out/map.png, its last image.

    With `costmap`, what Nav2 would hold stands next to the map. Raises DataError for a bag without
    images or CameraInfo, or that does not say where the camera is, and where no image could be
    mapped.
    """
    with BagReader(bag) as reader:
        topics = find_topics(reader.topics, image_topic)
        info = first_camera_info(reader, topics.camera_info, bag)
        poses = BagPoses(reader, placement, str(info.header.frame_id))
        out.mkdir(parents=True, exist_ok=True)
        view = View(ahead=settings.width / 2, behind=1.0, side=settings.height / 2)
        skipped: Counter[str] = Counter()
        mapper = Mapper(settings, poses)
        frames = _Frames(segmenter, mapper, poses, view, placement.rectified, skipped, costmap)
        try:
            rate = _rate(reader, topics.image)
            with closing(ahead(decoded_parts(bag_parts(bag, topics.image, topics)))) as parts:
                count = write_video(out / "map.mp4", frames.of(parts), rate=rate)
        except DataError as error:
            if not skipped:
                raise
            raise DataError(
                f"no image of {topics.image} could be mapped: {'; '.join(skipped)}"
            ) from error
    _write_image(out / "map.png", frames.last)
    return Mapped(count, dict(skipped), poses.sources, poses.warnings)


def first_camera_info(reader: BagReader, topic: str, bag: Path) -> Any:
    """Return the first CameraInfo of a topic; DataError where it has none."""
    info = next(reader.messages([topic]), None)
    if info is None:
        raise DataError(f"{bag} has no message on {topic}; record CameraInfo too")
    return info


def find_topics(known: dict[str, str], image_topic: str | None = None) -> Topics:
    """Choose images, and the CameraInfo next to them; DataError lists the choices."""
    image = choose_image_topic(known, image_topic, with_video=True)
    info = find_camera_info(known, image)
    if info is None:
        infos = [t for t, kind in known.items() if kind == CAMERA_INFO]
        raise DataError(
            f"no {camera_info_beside(image)} belongs to {image}; the bag's CameraInfo topics are "
            f"{', '.join(infos) or 'none'}: record camera_info with the images"
        )
    return Topics(image, info)


class _Frames:
    """Turns the messages of a bag into images of the map."""

    def __init__(
        self,
        segmenter: Segmenter,
        mapper: Mapper,
        poses: PoseSource,
        view: View,
        rectified: bool,
        skipped: "Counter[str]",
        costmap: Costmap | None,
    ) -> None:
        self._segmenter, self._mapper, self._poses = segmenter, mapper, poses
        self._costmap = costmap
        self._rectified, self._skipped, self._view = rectified, skipped, view
        self._groups = segmenter.manifest.label_space("groups").lut
        self._info: Any = None
        self.last: Image = np.zeros((1, 1, 3), np.uint8)

    def of(self, parts: Iterator[Part]) -> Iterator[Image]:
        """Yield uint8 (H,W,3) BGR for every image that the map could take."""
        for part in parts:
            for record in part.records:
                if record.type == CAMERA_INFO:
                    self._info = deserialize(record)
            for frame in part.frames:
                try:
                    self.last = self._drawn(frame)
                except (GeometryError, ImageError) as error:
                    self._skipped[str(error)] += 1
                    continue
                yield self.last

    def _drawn(self, image: Frame) -> Image:
        if self._info is None:
            raise GeometryError("no CameraInfo came before the image")
        stamp_ns = int(image.key)
        result = self._segmenter(image.image, "bgr8")
        camera = Camera.from_info(self._info, result.labels.shape, rectified=self._rectified)
        groups = self._groups[result.labels]
        frame = str(image.header.frame_id)
        look = LabelFrame(groups, result.confidence, camera, "", frame, stamp_ns)
        seen, robot = self._mapper.update(look), self._poses.robot(stamp_ns)
        drawn = [draw_map(self._mapper, robot, self._view)]
        if self._costmap is not None:
            place, stamp = self._poses.camera("", frame, stamp_ns), stamp_ns / 1e9
            self._costmap.hear(seen, self._mapper, place, robot, stamp)
            self._costmap.update(robot, stamp)
            drawn.append(draw_costmap(self._costmap, robot, self._view))
        return beside_map(draw_overlay(image.image, result.labels, self._segmenter.space), *drawn)


def draw_maps(
    masks: Mapping[int, NDArray[np.uint8]],
    info: Any,
    manifest: Manifest,
    mount: Pose,
    settings: Settings,
) -> dict[int, Image]:
    """Return the map, BGR, at the stamp of each mask of model ids (H,W); without odometry."""
    groups = manifest.label_space("groups").lut
    mapper = Mapper(settings, StillCamera(mount))
    maps = {}
    for stamp in sorted(masks):
        camera = Camera.from_info(info, masks[stamp].shape)
        frame = str(info.header.frame_id)
        mapper.update(LabelFrame(groups[masks[stamp]], None, camera, "", frame, stamp))
        maps[stamp] = draw_map(mapper, None, View())
    return maps


def beside_map(image: Image, *drawn: Image) -> Image:
    """Return a camera image and maps, at the image's height, side by side."""
    height = image.shape[0]
    fitted = [image]
    for one in drawn:
        size = (round(one.shape[1] * height / one.shape[0]), height)
        fitted.append(np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8))
    return np.asarray(np.hstack(fitted), np.uint8)


def _rate(reader: BagReader, topic: str) -> float:
    """Return the images' rate in Hz, from the first and the last."""
    times = [record.time_ns for record in reader.raw([topic])]
    if len(times) < 2 or times[-1] <= times[0]:
        return RATE
    return min(120.0, max(0.1, (len(times) - 1) / (times[-1] - times[0]) * 1e9))


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    temporary = path.with_name(f"{path.stem}.part{path.suffix}")
    cv2.imwrite(str(temporary), image)
    os.replace(temporary, path)
