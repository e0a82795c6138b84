"""Segment a camera: ros2 launch seg_perception robot.launch.py camera:=/camera

The node brings itself up; this file emits no transitions. See --show-args.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from seg_perception.launch_arguments import PROFILES, segmentation_settings

ARGUMENTS = [
    DeclareLaunchArgument("camera", default_value="/camera", description="namespace of the camera"),
    DeclareLaunchArgument(
        "image", default_value="", description="picture topic, if not <camera>/image_raw"
    ),
    DeclareLaunchArgument(
        "image_transport", default_value="raw", choices=["raw", "compressed"],
        description="compressed subscribes to <image>/compressed",
    ),
    DeclareLaunchArgument("model", default_value="", description="model file (bundled if empty)"),
    DeclareLaunchArgument(
        "label_space", default_value="", choices=["", "model", "groups"],
        description="ids of the mask: the model's classes, or groups for planners",
    ),
    DeclareLaunchArgument(
        "profile", default_value="cpu", choices=list(PROFILES), description="kind of machine"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
    DeclareLaunchArgument("params_file", default_value="", description="YAML of parameters"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"],
        description="take the time from /clock (bags played with --clock)",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="of the node"),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=["true", "false"], description="open rviz2"
    ),
]  # fmt: skip


def start_node(context: LaunchContext) -> list[Node]:
    """Create segmentation_node from the arguments' values."""
    values = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    share = Path(get_package_share_directory("seg_perception"))
    settings = segmentation_settings(
        values,
        fastdds_profile=str(share / "config" / "fastdds.xml"),
        environment=os.environ,
    )
    files = [values["params_file"]] if values["params_file"] else []
    return [
        Node(
            package="seg_perception",
            executable="segmentation_node",
            name="segmentation_node",
            namespace=values["namespace"],
            parameters=[settings.parameters, *files],
            remappings=settings.remaps,
            additional_env=settings.environment,
            arguments=["--ros-args", "--log-level", values["log_level"]],
            output="screen",
            respawn=True,
            respawn_delay=2.0,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the node, and rviz2 when it is wanted."""
    share = Path(get_package_share_directory("seg_perception"))
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share / "config" / "segmentation.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    # rviz2 first: where it is not installed, the launch fails before a node runs.
    return LaunchDescription([*ARGUMENTS, rviz, OpaqueFunction(function=start_node)])
