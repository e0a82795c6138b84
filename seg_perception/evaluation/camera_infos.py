"""Where a bag holds the calibration of its pictures; knows topics by name and type alone."""

from collections.abc import Mapping

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


def find_camera_info(known: Mapping[str, str], image: str) -> str | None:
    """Return the CameraInfo topic beside an image topic, else the only one there is, or None."""
    infos = [t for t, kind in known.items() if kind == CAMERA_INFO]
    beside = camera_info_beside(image)
    if beside in infos:
        return beside
    return infos[0] if len(infos) == 1 else None


def camera_info_beside(image: str) -> str:
    """Return the name that CameraInfo has beside an image topic."""
    return f"{image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
