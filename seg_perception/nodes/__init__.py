"""Everything that knows ROS. Importing it gives this process a profile for large images."""

from seg_perception.fastdds import prepare_this_process

prepare_this_process()
