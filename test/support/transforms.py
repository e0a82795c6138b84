"""Transforms of a robot with one camera."""

import math

from geometry_msgs.msg import TransformStamped

from support.world import Pose2D

PLACE = Pose2D(4.0, -1.0, 0.5)


def camera_transform() -> TransformStamped:
    """Return the camera's optical frame in base: 1.2 m up, looking 0.3 rad down."""
    message = TransformStamped(child_frame_id="camera_optical")
    message.header.frame_id = "base_link"
    message.transform.translation.z = 1.2
    # -90 degrees around z after -90 - 17.2 degrees around x, in the order of optical frames.
    half = (-math.pi / 2 - 0.3) / 2
    c, s, r = math.cos(half), math.sin(half), math.sqrt(0.5)
    turn = message.transform.rotation
    turn.x, turn.y, turn.z, turn.w = r * s, -r * s, -r * c, r * c
    return message


def robot_transform(stamp: int) -> TransformStamped:
    """Return where the base stands in odom."""
    message = TransformStamped(child_frame_id="base_link")
    message.header.frame_id = "odom"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.transform.translation.x = PLACE.x
    message.transform.translation.y = PLACE.y
    message.transform.rotation.z = math.sin(PLACE.yaw / 2)
    message.transform.rotation.w = math.cos(PLACE.yaw / 2)
    return message
