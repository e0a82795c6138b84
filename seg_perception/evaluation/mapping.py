"""Map a bag: pictures, their labels, and the ground around the robot, without ROS."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception import messages
from seg_perception.drawing import draw_overlay
from seg_perception.errors import DataError, GeometryError, ImageError
from seg_perception.evaluation.bags import BagReader, RawMessage, choose_image_topic, deserialize
from seg_perception.evaluation.birdseye import Picture, StillCamera, View, draw_map
from seg_perception.evaluation.camera_infos import (
    CAMERA_INFO,
    camera_info_beside,
    find_camera_info,
)
from seg_perception.evaluation.video import write_video
from seg_perception.images import to_bgr
from seg_perception.manifest import Manifest
from seg_perception.occupancy.camera import Camera, Pose
from seg_perception.occupancy.mapper import Look, Mapper, Planar, Settings
from seg_perception.occupancy.odometry import Odometry, planar
from seg_perception.segmenter import Segmenter

ODOMETRY = "nav_msgs/msg/Odometry"
RATE = 15.0  # Hz of a video whose bag has a single picture


class Topics(NamedTuple):
    """What is read of a bag; odometry may be missing."""

    image: str
    camera_info: str
    odometry: str | None


class Mapped(NamedTuple):
    """What came out: pictures in the map, and why others are not in it, with their number."""

    pictures: int
    skipped: dict[str, int]


def map_bag(
    bag: Path,
    segmenter: Segmenter,
    mount: Pose,
    out: Path,
    *,
    settings: Settings,
    image_topic: str | None = None,
    rectified: bool = False,
) -> Mapped:
    """Write out/map.mp4, the overlay beside the map from above, and out/map.png, its last picture.

    `mount` takes the camera's body axes into base. Odometry is used where the bag has some. Raises
    DataError for a bag without pictures or CameraInfo, or where no picture could be mapped.
    """
    out.mkdir(parents=True, exist_ok=True)
    with BagReader(bag) as reader:
        topics = find_topics(reader.topics, image_topic)
        odometry = Odometry() if topics.odometry else None
        poses = StillCamera(mount, odometry)
        mapper = Mapper(settings, poses)
        view = View(ahead=settings.width / 2, behind=1.0, side=settings.height / 2)
        skipped: Counter[str] = Counter()
        frames = _Frames(segmenter, mapper, poses, view, rectified, skipped)
        wanted = [t for t in topics if t is not None]
        rate = _rate(reader, topics.image)
        try:
            count = write_video(out / "map.mp4", frames.of(reader.raw(wanted), odometry), rate=rate)
        except DataError as error:
            if not skipped:
                raise
            raise DataError(
                f"no picture of {topics.image} could be mapped: {'; '.join(skipped)}"
            ) from error
    _write_picture(out / "map.png", frames.last)
    return Mapped(count, dict(skipped))


def find_topics(known: dict[str, str], image_topic: str | None = None) -> Topics:
    """Choose pictures, the CameraInfo beside them, and odometry; DataError lists the choices."""
    image = choose_image_topic(known, image_topic)
    info = find_camera_info(known, image)
    if info is None:
        infos = [t for t, kind in known.items() if kind == CAMERA_INFO]
        raise DataError(
            f"no {camera_info_beside(image)} belongs to {image}; the bag's CameraInfo topics are "
            f"{', '.join(infos) or 'none'}: record camera_info with the pictures"
        )
    odometry = next((t for t, kind in known.items() if kind == ODOMETRY), None)
    return Topics(image, info, odometry)


class _Frames:
    """Turns the messages of a bag into pictures of the map."""

    def __init__(
        self,
        segmenter: Segmenter,
        mapper: Mapper,
        poses: StillCamera,
        view: View,
        rectified: bool,
        skipped: "Counter[str]",
    ) -> None:
        self._segmenter, self._mapper, self._poses = segmenter, mapper, poses
        self._rectified, self._skipped, self._view = rectified, skipped, view
        self._groups = segmenter.manifest.label_space("groups").lut
        self._info: Any = None
        self.last: Picture = np.zeros((1, 1, 3), np.uint8)

    def of(self, records: Iterator[RawMessage], odometry: Odometry | None) -> Iterator[Picture]:
        """Yield uint8 (H,W,3) BGR for every picture that the map could take."""
        for record in records:
            message = deserialize(record)
            if record.type == CAMERA_INFO:
                self._info = message
            elif record.type == ODOMETRY and odometry is not None:
                odometry.add(messages.stamp_ns(message.header), _place(message))
            else:
                try:
                    self.last = self._frame(message)
                except (GeometryError, ImageError) as error:
                    self._skipped[str(error)] += 1
                    continue
                yield self.last

    def _frame(self, message: Any) -> Picture:
        if self._info is None:
            raise GeometryError("no CameraInfo came before the picture")
        picture = messages.decode(message)
        bgr = to_bgr(picture.image, picture.encoding)
        result = self._segmenter(bgr, "bgr8")
        camera = Camera.from_info(self._info, result.labels.shape, rectified=self._rectified)
        stamp = messages.stamp_ns(message.header)
        groups = self._groups[result.labels]
        frame = str(message.header.frame_id)
        self._mapper.update(Look(groups, result.confidence, camera, "", frame, stamp))
        return beside_map(
            draw_overlay(bgr, result.labels, self._segmenter.space),
            draw_map(self._mapper, self._poses.robot(stamp), self._view),
        )


def draw_maps(
    masks: Mapping[int, NDArray[np.uint8]],
    info: Any,
    manifest: Manifest,
    mount: Pose,
    settings: Settings,
) -> dict[int, Picture]:
    """Return the map, BGR, at the stamp of each mask of model ids (H,W); without odometry."""
    groups = manifest.label_space("groups").lut
    mapper = Mapper(settings, StillCamera(mount))
    maps = {}
    for stamp in sorted(masks):
        camera = Camera.from_info(info, masks[stamp].shape)
        frame = str(info.header.frame_id)
        mapper.update(Look(groups[masks[stamp]], None, camera, "", frame, stamp))
        maps[stamp] = draw_map(mapper, None, View())
    return maps


def beside_map(picture: Picture, drawn: Picture) -> Picture:
    """Return a camera picture and the map, at the picture's height, side by side."""
    height = picture.shape[0]
    width = round(drawn.shape[1] * height / drawn.shape[0])
    fitted = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.hstack([picture, fitted]), np.uint8)


def _place(message: Any) -> Planar:
    position, turned = message.pose.pose.position, message.pose.pose.orientation
    quaternion = (turned.x, turned.y, turned.z, turned.w)
    return planar(Pose.from_quaternion((position.x, position.y, position.z), quaternion))


def _rate(reader: BagReader, topic: str) -> float:
    """Return the pictures' rate in Hz, from the first and the last."""
    times = [record.time_ns for record in reader.raw([topic])]
    if len(times) < 2 or times[-1] <= times[0]:
        return RATE
    return min(120.0, max(0.1, (len(times) - 1) / (times[-1] - times[0]) * 1e9))


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    beside = path.with_name(f"{path.stem}.part{path.suffix}")
    cv2.imwrite(str(beside), picture)
    os.replace(beside, path)
