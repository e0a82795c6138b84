"""Play a rosbag2 through the nodes, on its own clock:

ros2 launch seg_perception replay.launch.py bag:=FOLDER rviz:=true

`ros2 bag play` plays where it is installed, our own player elsewhere. The launch ends with the bag.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from seg_perception.launch_arguments import missing_environment
from seg_perception.live.replay import REPLAY_ARGUMENTS, player_command, robot_arguments


def replay(context: LaunchContext) -> list[Any]:
    """Include robot.launch.py with what the bag tells, and start the player."""
    names = ("bag", *REPLAY_ARGUMENTS)
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    bag = Path(values["bag"])
    share = Path(get_package_share_directory("seg_perception"))
    robot = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "robot.launch.py")),
        launch_arguments=robot_arguments(bag, values).items(),
    )
    player = ExecuteProcess(
        cmd=player_command(bag, values, with_ros2bag=find_spec("ros2bag") is not None),
        name="player",
        output="screen",
        on_exit=Shutdown(reason="the player has ended"),
    )
    # Both ends of every image are started here, so both get what large images need.
    fastdds = str(share / "config" / "fastdds.xml")
    missing = missing_environment(fastdds, context.environment)
    return [*(SetEnvironmentVariable(*pair) for pair in missing.items()), robot, player]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and what they start."""
    declared = [
        DeclareLaunchArgument(name, **argument.declaration())
        for name, argument in REPLAY_ARGUMENTS.items()
    ]
    bag = DeclareLaunchArgument("bag", description="folder or file of a rosbag2")
    return LaunchDescription([bag, *declared, OpaqueFunction(function=replay)])
