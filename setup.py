"""Package metadata; it stands here rather than in pyproject.toml because colcon reads it here."""

from glob import glob

from setuptools import find_packages, setup

NAME = "seg_perception"

ROS = [
    "ros-kilted-rclpy",
    "ros-kilted-sensor-msgs",
    "ros-rclpy[fastrtps]==9.1.2",
    "ros-diagnostic-msgs",
    "ros-geometry-msgs",
    "ros-lifecycle-msgs",
    "ros-nav-msgs",
    "ros-rosgraph-msgs",
    "ros-std-srvs",
]
EVALUATE = ["av>=12", "jinja2>=3", "matplotlib>=3.6", "pillow>=9", "rich>=13", "rosbags>=0.11.7"]

setup(
    name=NAME,
    version="0.1.0",
    description="Semantic segmentation for ROS 2: label images, confidence and occupancy",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "py.typed",
            "fastdds.xml",
            "cards/*.yaml",
            "catalogue.yaml",
            "group_words.yaml",
            "clip/README.md",
            "clip/bag/*",
            "clip/truth/*",
            "reporting/*.j2",
            "weights/*.onnx",
            "weights/*.md",
            "weights/*.yaml",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.py")),
        (f"share/{NAME}/config", glob("config/*")),
    ],
    install_requires=[
        "setuptools",
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.6,<5",
        "onnxruntime>=1.17",
        "numba>=0.59",
        "packaging>=21",
        "pyyaml>=5.4",
    ],
    extras_require={
        "ros": ROS,
        "evaluate": EVALUATE,
        "cluster": ["distributed>=2024.1"],
        "export": ["onnx>=1.15"],
        "hub": ["huggingface_hub>=0.25", "safetensors>=0.4"],
        "safetensors": ["safetensors>=0.4"],
        "train": ["torch>=2.4", "rich>=13", "onnx>=1.15"],
        "test": ["jsonschema>=4", "pytest<9", "pytest-timeout", "pytest-xdist>=3.2"],
    },
    entry_points={
        "console_scripts": [
            f"seg-perception = {NAME}.cli:main",
            f"segmentation_node = {NAME}.nodes.segmentation_node:main",
            f"occupancy_node = {NAME}.nodes.occupancy_node:main",
            f"perception_node = {NAME}.nodes.perception_node:main",
        ]
    },
    zip_safe=False,
)
