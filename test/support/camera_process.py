"""Publish N images of 1280x720 at 15 Hz, a line each; a camera driver in a process of its own.

python camera_process.py COUNT reliable|best_effort LISTENERS
"""

import sys
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_perception.messages import fill_image

count = int(sys.argv[1])
policy = ReliabilityPolicy[sys.argv[2].upper()]
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "/image", QoSProfile(depth=5, reliability=policy))
image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3)).astype(np.uint8)
while publisher.get_subscription_count() < int(sys.argv[3]):
    rclpy.spin_once(node, timeout_sec=0.1)
time.sleep(1.0)  # this side knows its listeners before they know it
started = time.monotonic()
for i in range(count):
    message = fill_image(Image(), image, "rgb8", Image().header)
    message.header.stamp.sec = i + 1
    print("publishes", flush=True)  # before it is done: a killed camera sent no more than it told
    publisher.publish(message)
    time.sleep(max(0.0, started + (i + 1) / 15 - time.monotonic()))
time.sleep(2)
