"""Segment cameras, and map what they see where occupancy:=true:

ros2 launch seg_perception robot.launch.py camera:=/camera

The nodes bring themselves up; this file emits no transitions. See --show-args and docs/launch.md.
"""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from seg_perception.launch_arguments import (
    ARGUMENTS,
    NodeSettings,
    advice,
    missing_environment,
    nodes_of,
    problem,
)


def start_nodes(context: LaunchContext) -> list[Any]:
    """Create what the arguments ask for, or raise before anything runs."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    wrong = problem(values)
    if wrong:
        raise RuntimeError(wrong)
    config = Path(get_package_share_directory("seg_perception")) / "config"
    fastdds = str(config / "fastdds.xml")
    shared = {
        "package": "seg_perception",
        "namespace": values["namespace"],
        "additional_env": missing_environment(fastdds, context.environment),
        "output": "screen",
    }
    settings = nodes_of(values)
    files = [str(config / f"{values['profile']}.yaml"), *filter(None, [values["params_file"]])]
    shared["parameters"] = [*files, given_parameters(context, values["namespace"], settings)]
    # rviz2 first: where it is not installed, the launch fails before a node runs.
    started = [open_rviz(config, values, shared)] if values["rviz"] == "true" else []
    for executable, names in processes(values).items():
        node = Node(
            executable=executable,
            # A name would rename every node of the process.
            name=names[0] if len(names) == 1 else None,
            remappings=[remap for name in names for remap in settings[name].remaps],
            arguments=["--ros-args", "--log-level", values["log_level"]],
            respawn=True,
            respawn_delay=2.0,
            **shared,
        )
        started.append(node)
    said = advice(fastdds, context.environment)
    return [LogInfo(msg=said), *started] if said else started


def processes(values: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of the nodes in each executable."""
    names = list(nodes_of(values))
    if values["composed"] == "true":
        return {"perception_node": names}
    return {name: [name] for name in names}


def given_parameters(
    context: LaunchContext, namespace: str, settings: dict[str, NodeSettings]
) -> str:
    """Write what was given into a file that names each node in full.

    So it wins over every line of params_file, and holds for the right node of a process.
    """
    base = context.launch_configurations.get("ros_namespace")
    inside = make_namespace_absolute(prefix_namespace(base, namespace))
    content = {
        prefix_namespace(inside, name): {"ros__parameters": node.parameters}
        for name, node in settings.items()
    }
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", delete=False) as file:
        yaml.safe_dump(content, file)
    return file.name


def open_rviz(config: Path, values: dict[str, str], shared: dict[str, Any]) -> Node:
    """Return rviz2 with our displays; it needs the nodes' environment to see large images."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError(
            "rviz:=true, but rviz2 is not installed: sudo apt install ros-$ROS_DISTRO-rviz2, or "
            "leave rviz:=true out"
        ) from error
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(config / "segmentation.rviz")],
        parameters=[{"use_sim_time": values["use_sim_time"] == "true"}],
        additional_env=shared["additional_env"],
    )


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, **argument.declaration())
        for name, argument in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_nodes)])
