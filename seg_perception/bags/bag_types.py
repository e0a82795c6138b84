"""Message types of bags: ROS's own, those of ours, and what a bag itself defines."""

from functools import lru_cache

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from seg_perception.errors import DataError

STORE = get_typestore(Stores.ROS2_JAZZY)
# The store lacks what is no part of ROS's core; fields as in vision_msgs 4, foxglove_msgs 3 and
# ffmpeg_image_transport_msgs 1. Their packages change them, so a bag's own definition wins.
ADDED = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
    ),
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format"
    ),
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data"
    ),
}
for _kind, _fields in ADDED.items():
    STORE.register(get_types_from_msg(_fields, _kind))
BASIC = ("builtin_interfaces/msg/Time", "std_msgs/msg/Header")  # what some definitions leave out


def full_type(name: str) -> str:
    """Return a message type with its `/msg/`, which older and foreign recorders leave out."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name


@lru_cache(maxsize=16)
def store_of(kind: str, definition: MessageDefinition) -> Typestore:
    """Return the types that read messages of `kind` in a bag that defines it so.

    Raises DataError for a definition that cannot be read.
    """
    is_idl = definition.format is MessageDefinitionFormat.IDL
    try:
        types = (
            get_types_from_idl(definition.data)
            if is_idl
            else get_types_from_msg(definition.data, kind)
        )
        store = get_typestore(Stores.EMPTY)
        store.register({name: STORE.fielddefs[name] for name in BASIC} | types)
    except Exception as error:  # the parsers meet damage in many ways
        raise DataError(
            f"the bag's definition of {kind} cannot be read ({type(error).__name__}: {error}); "
            "record it again"
        ) from error
    return store
