"""Segment a camera, and map what it sees where occupancy:=true:

ros2 launch seg_perception robot.launch.py camera:=/camera

The nodes bring themselves up; this file emits no transitions. See --show-args.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from seg_perception.launch_arguments import PROFILES, occupancy_settings, segmentation_settings

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
    DeclareLaunchArgument(
        "occupancy", default_value="false", choices=["true", "false"],
        description="map too; params_file or tf tells where the camera stands",
    ),
    DeclareLaunchArgument(
        "depth", default_value="", description="registered depth for occupancy_node, if not depth"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
    DeclareLaunchArgument(
        "params_file", default_value="", description="YAML of parameters, of both nodes"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"],
        description="take the time from /clock (bags played with --clock)",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="of the nodes"),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=["true", "false"], description="open rviz2"
    ),
]  # fmt: skip


def start_nodes(context: LaunchContext) -> list[Node]:
    """Create the nodes from the arguments' values."""
    values = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    wanted = {"segmentation_node": segmentation_settings}
    if values["occupancy"] == "true":
        wanted["occupancy_node"] = occupancy_settings
    share = Path(get_package_share_directory("seg_perception"))
    fastdds = str(share / "config" / "fastdds.xml")
    profile = str(share / "config" / f"{values['profile']}.yaml")
    files = [values["params_file"]] if values["params_file"] else []
    nodes = []
    for name, settings_of in wanted.items():
        settings = settings_of(values, fastdds_profile=fastdds, environment=os.environ)
        nodes.append(
            Node(
                package="seg_perception",
                executable=name,
                name=name,
                namespace=values["namespace"],
                parameters=[profile, settings.parameters, *files],
                remappings=settings.remaps,
                additional_env=settings.environment,
                arguments=["--ros-args", "--log-level", values["log_level"]],
                output="screen",
                respawn=True,
                respawn_delay=2.0,
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Return the nodes, and rviz2 when it is wanted."""
    share = Path(get_package_share_directory("seg_perception"))
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share / "config" / "segmentation.rviz")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    # rviz2 first: where it is not installed, the launch fails before a node runs.
    return LaunchDescription([*ARGUMENTS, rviz, OpaqueFunction(function=start_nodes)])
