"""Files come whole or not at all, and what cannot be written is told before any work."""

from pathlib import Path

import pytest

from seg_perception.errors import ModelError, first_line
from seg_perception.files import atomic_write, check_output


def write_half(path: Path, error: Exception) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_file_replaces_the_one_before_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.txt"
    with atomic_write(path) as temporary, atomic_write(path) as other:
        assert temporary.parent == path.parent
        assert temporary != other
        temporary.write_text("one")
        other.write_text("two")
    assert path.read_text() == "one"
    with pytest.raises(KeyError):
        write_half(path, KeyError())
    assert path.read_text() == "one"
    assert len(list(path.parent.iterdir())) == 1


def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, told in (
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "file" / "m.pt", "file is no folder"),
        (tmp_path / "file" / "x" / "m.pt", "file is no folder"),
        (Path("/proc/none/m.pt"), "cannot be written"),
    ):
        with pytest.raises(ModelError, match=told), atomic_write(path):
            assert path == Path("/proc/none/m.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with pytest.raises(ModelError, match=r"m\.pt cannot be written: No space left"):
        write_half(path, OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_of_its_kind_and_not_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.pt is no \.onnx file; name the output OUT\.onnx"):
        check_output(tmp_path / "m.pt", kinds=(".onnx",))
    with pytest.raises(ModelError, match=r"neither a \.onnx nor a \.pt file"):
        check_output(tmp_path / "m", kinds=(".onnx", ".pt"))
    source = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match="is what would be read"):
        check_output(tmp_path / "x" / ".." / "m.onnx", sources=(source,))
    check_output(source, kinds=(".onnx",), sources=(tmp_path / "other.onnx",))


def test_an_error_without_text_has_a_first_line() -> None:
    assert first_line(IndexError()) == "IndexError"
    assert first_line(ValueError("\n one \n two")) == "one"
