"""`tiny,threads=2`: what commands take where a model or a folder has settings of its own."""

from dataclasses import fields
from typing import Any

from seg_perception.errors import UsageError


def parse(text: str, kind: type, *, of: str, form: str) -> tuple[str, dict[str, Any]]:
    """Return what stands before the first comma, and the settings behind it by their names.

    They are fields of the dataclass `kind` but its first, and have their types. UsageError names
    what is wrong; `of` says there whose settings they are, and `form` what the first part is.
    """
    first, *parts = text.split(",")
    kinds: dict[str, Any] = {f.name: f.type for f in fields(kind)[1:]}
    values: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in kinds:
            raise UsageError(
                f"{text!r}: {key!r} is no setting of {of}; write {form},key=value with keys of "
                f"{', '.join(kinds)}"
            )
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise UsageError(f"{text!r}: {key} takes no {value!r}; give a number") from None
    return first, values
