#!/bin/bash
# Run a command in the ROS environment and the workspace.
set -e
source "/opt/ros/${ROS_DISTRO}/setup.bash"
source /ws/install/setup.bash
exec "$@"
