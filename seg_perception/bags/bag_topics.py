"""Which topics of a bag are its images and their calibration; knows names and types alone."""

import re
from collections.abc import Collection, Mapping

from seg_perception.errors import DataError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
# Of these an image is decoded from its predecessors; only commands that read bags do so.
VIDEO_TYPES = (
    "foxglove_msgs/msg/CompressedVideo",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
)
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
SHOWN = 12  # topics of a bag that a message lists
LIKELY = re.compile("image|video|image|h26[45]", re.IGNORECASE)  # in types that may hold images


def choose_image_topic(
    known: Mapping[str, str],
    wanted: str | None = None,
    *,
    but: Collection[str] = (),
    with_video: bool = False,
    option: str = "--image-topic",
) -> str:
    """Return the image topic `wanted`, or the only one there is; DataError lists the choices.

    `known` is the message type of each topic. Topics in `but` are not for choice, those of video
    only `with_video`. `option` is what a user chooses one with.
    """
    kinds = IMAGE_TYPES + (VIDEO_TYPES if with_video else ())
    images = [t for t, kind in known.items() if kind in kinds and t not in but]
    if wanted is None and not images:
        raise DataError(f"the bag has no image topic: {describe_topics(known)}")
    if wanted is None and len(images) > 1:
        raise DataError(
            f"the bag has {len(images)} image topics ({', '.join(images)}); choose one with "
            f"{option}"
        )
    topic = wanted or images[0]
    if topic not in images:
        there = ", ".join(images) or f"none; {describe_topics(known)}"
        is_of = f" but {known[topic]}" if topic in known else ""
        raise DataError(f"{topic} is no image topic{is_of}; there are {there}")
    return topic


def describe_topics(known: Mapping[str, str]) -> str:
    """Return the topics of a bag with their types, and what to do with those that may be meant."""
    if not known:
        return "it has no topics at all; record it again"
    listed = [f"{topic} ({kind})" for topic, kind in sorted(known.items())]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    videos = [t for t, kind in sorted(known.items()) if kind in VIDEO_TYPES]
    likely = [t for t, k in sorted(known.items()) if LIKELY.search(k) and t not in videos]
    hints = [f"its topics are {', '.join(listed[:SHOWN])}{more}"]
    if videos:
        hints.append(
            f"{', '.join(videos)}: only evaluate without --live, label, map and quantize read "
            "video; republish it as images (ros2 run image_transport republish)"
        )
    if likely:
        hints.append(f"if {' or '.join(likely)} is meant, convert it to sensor_msgs/msg/Image")
    return "; ".join(hints)


def find_camera_info(known: Mapping[str, str], image: str) -> str | None:
    """Return the CameraInfo topic next to an image topic, else the only one there is, or None."""
    infos = [t for t, kind in known.items() if kind == CAMERA_INFO]
    usual = camera_info_beside(image)
    if usual in infos:
        return usual
    return infos[0] if len(infos) == 1 else None


def camera_info_beside(image: str) -> str:
    """Return the name that CameraInfo has next to an image topic."""
    return f"{image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
