"""segmentation_node, whose interpreter hangs as a broken middleware makes it.

python hanging_node.py load|run [ROS ARGUMENTS]

With `run` it hangs for ever once something comes on /hang; with `load` it hangs for 4 s while its
model is loaded, and goes on.
"""

import ctypes
import sys
from typing import Any

from std_msgs.msg import Empty

from seg_perception.nodes import model_swap, segmentation_node
from seg_perception.segmenter import Segmenter

LIBC = ctypes.PyDLL(None)  # its calls keep Python's lock


class HangingNode(segmentation_node.SegmentationNode):
    """Hangs for ever in a callback."""

    def __init__(self) -> None:
        super().__init__()
        self.create_subscription(Empty, "/hang", lambda _: LIBC.sleep(3600), 10)


class SlowSegmenter(Segmenter):
    """Holds the lock while it is loaded, as the building of an engine does."""

    @classmethod
    def load(cls, *arguments: Any, **options: Any) -> Segmenter:
        LIBC.sleep(4)
        return super().load(*arguments, **options)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        model_swap.Segmenter = SlowSegmenter  # type: ignore[attr-defined]
        segmentation_node.main()
    else:
        segmentation_node.run(HangingNode)
