"""Findings for programs and bug reports: JSON by a schema, without names of people or machines."""

import json
import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_perception import __version__
from seg_perception.doctor.finding import LEVELS, Finding

_TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "What seg-perception doctor --json prints",
    "type": "object",
    "required": ["schema", "version", "python", "platform", "ros_distro", "findings"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1, "description": "of this document; it grows when a key changes"},
        "version": {**_TEXT, "description": "of seg_perception"},
        "python": {**_TEXT, "description": "its version"},
        "platform": {**_TEXT, "description": "operating system, kernel and processor"},
        "ros_distro": {**_TEXT, "description": "ROS_DISTRO, empty where it is not set"},
        "findings": {
            "type": "array",
            "items": {
                "type": "object",
                "required": list(Finding._fields),
                "additionalProperties": False,
                "properties": {
                    "level": {"enum": list(LEVELS)},
                    "check": {**_TEXT, "description": "what was looked at"},
                    "found": {**_TEXT, "description": "what was found"},
                    "means": {**_TEXT, "description": "what it does to you; empty where well"},
                    "do": {**_TEXT, "description": "the next step; empty where well"},
                },
            },
        },
    },
}


def to_json(findings: Sequence[Finding], environment: Mapping[str, str]) -> str:
    """Return findings as JSON by SCHEMA; folders of users and the host's name are left out."""
    document = {
        "schema": 1,
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "ros_distro": environment.get("ROS_DISTRO", ""),
        "findings": [{k: anonymous(v) for k, v in f._asdict().items()} for f in findings],
    }
    return json.dumps(document, indent=2)


def anonymous(text: str) -> str:
    """Return a text without the user's home, the names of others, and this machine's name."""
    text = text.replace(str(Path.home()), "~") if Path.home() != Path("/") else text
    text = re.sub(r"/(home|Users)/[^/\s:'\"]+", r"/\1/*", text)
    for name in {socket.gethostname(), os.environ.get("USER", "")} - {"", "root", "localhost"}:
        text = re.sub(rf"(?<![\w/]){re.escape(name)}(?![\w/])", "*", text)
    return text
