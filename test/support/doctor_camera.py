"""A camera driver for the doctor to look at: 10 Hz until it is told to stop, well or not.

python doctor_camera.py [key=value ...], keys as in SETTINGS.
"""

import sys
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.messages import fill_image

SETTINGS = {
    "name": "camera",  # of its topics
    "reliability": "best_effort",
    "encoding": "rgb8",
    "focal": "250",  # pixels, K[0]
    "frame": "camera_optical",
    "late": "0",  # seconds from stamp to clock
    "clock": "",  # any text: publish /clock with the images' stamps
    "width": "320",
    "height": "240",
}
RATE = 10.0

settings = {**SETTINGS, **dict(argument.split("=") for argument in sys.argv[1:])}
width, height, focal = (int(settings[name]) for name in ("width", "height", "focal"))
rclpy.init()
node = rclpy.create_node(settings["name"])
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[settings["reliability"].upper()])
images = node.create_publisher(Image, f"/{settings['name']}/image", qos)
# One of image_transport's plugins, which pack images for who asks.
node.create_publisher(CompressedImage, f"/{settings['name']}/image/zstd", qos)
infos = node.create_publisher(CameraInfo, f"/{settings['name']}/camera_info", qos)
clocks = node.create_publisher(Clock, "/clock", 10) if settings["clock"] else None
pixels = np.full((height, width, 3), 90, np.uint8)
info = CameraInfo(width=width, height=height)
info.k = [float(focal), 0.0, width / 2, 0.0, float(focal), height / 2, 0.0, 0.0, 1.0]


def publish() -> None:
    message = fill_image(Image(), pixels, settings["encoding"], Image().header)
    stamp = time.time_ns() - int(float(settings["late"]) * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.header.frame_id = settings["frame"]
    info.header = message.header
    if clocks is not None:
        clocks.publish(Clock(clock=message.header.stamp))
    infos.publish(info)
    images.publish(message)


node.create_timer(1 / RATE, publish)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
finally:
    rclpy.try_shutdown()
