"""Run a module as a process whose vision_msgs is the stand-in: its name, then its arguments."""

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.graph import Graph


def start_with_names(ros: "Graph", module: str, *arguments: str, **parameters: Any) -> Any:
    """Start a module, such as nodes.occupancy_node, that knows vision_msgs."""
    given = [f"{name}:={value}".replace("'", "") for name, value in parameters.items()]
    words = [word for text in given for word in ("-p", text)]
    ros_arguments = ["--ros-args", *words] if words else []
    return ros.start(__file__, f"seg_perception.{module}", *arguments, *ros_arguments)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support import vision_stand_in

    sys.modules["vision_msgs"] = sys.modules["vision_msgs.msg"] = vision_stand_in
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
