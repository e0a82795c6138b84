"""What all pages of reports share: templates, figures, and pages of plain sections."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, Template, select_autoescape
from numpy.typing import NDArray

from seg_perception.files import atomic_write
from seg_perception.labels import LabelSpace
from seg_perception.metrics.description import share

Column = tuple[str, NDArray[np.uint8]]  # a caption, and an image BGR (H,W,3)


class Section(NamedTuple):
    """A part of a page: a heading, and what is there of text, chart (SVG), table and images.

    The first row of a table is its head. `images` are rows of images next to each other.
    """

    heading: str
    text: str = ""
    chart: str = ""
    rows: Sequence[Sequence[str]] = ()
    images: Sequence[tuple[str, Sequence[Column]]] = ()


def write_page(
    path: Path,
    title: str,
    sections: Sequence[Section],
    *,
    notes: Sequence[str] = (),
    numbers: Sequence[tuple[str, str]] = (),
    space: LabelSpace,
) -> None:
    """Write one self-contained page; `numbers` are large ones with what they mean."""
    drawn = [
        section._replace(
            images=[(t, [(c, jpeg(i)) for c, i in columns]) for t, columns in section.images]  # type: ignore[misc]
        )
        for section in sections
    ]
    page = template("sections.html.j2").render(
        title=title, sections=drawn, notes=notes, numbers=numbers, legend=legend(space)
    )
    write_text(path, page)


def template(name: str) -> Template:
    """Return a template of this folder."""
    templates = Environment(
        loader=PackageLoader("seg_perception.reporting", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"share": share}
    return templates.get_template(name)


def write_text(path: Path, text: str) -> None:
    """Write a page or a table, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8", errors="replace")  # a file's name may be no text


def legend(space: LabelSpace) -> list[tuple[str, str]]:
    """Return names and CSS colours of the classes."""
    return [(n, "rgb({}, {}, {})".format(*space.colours[i])) for i, n in space.class_map()]


def jpeg(image: NDArray[np.uint8]) -> str:
    """Return an image BGR (H,W,3) as the text of a jpeg inside a page."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return base64.b64encode(data.tobytes()).decode()
