"""LabelInfo for a label space; the one place that knows whether vision_msgs is installed."""

from typing import Any

from seg_perception.labels import LabelSpace

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = None

__all__ = ["MISSING", "LabelInfo", "label_info"]

MISSING = (
    "vision_msgs is not installed: ~/label_info is not published, so Nav2's semantic layer and "
    "rviz2 do not learn class names; install ros-<distro>-vision-msgs"
)


def label_info(space: LabelSpace, header: Any, *, threshold: float) -> Any:
    """Return a LabelInfo that lists every id of `space`; `threshold` is the minimum confidence."""
    return LabelInfo(
        header=header,
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in space.class_map()],
        threshold=threshold,
    )
