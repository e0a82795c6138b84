"""Semantic segmentation for ROS 2: camera pictures in, label images and occupancy out."""

__version__ = "0.1.0"
