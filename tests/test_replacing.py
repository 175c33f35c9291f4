"""Files are whole or as they were: whatever fails half-way leaves what was there before."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurosim.errors import InvalidArgument
from neurosim.files import replacing, write_csv, write_json, write_text


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    assert write_text(tmp_path / "a.txt", "−1\n").read_text(encoding="utf-8") == "−1\n"
    values = {"a": [1, 0.1], "b": None}
    assert json.loads(write_json(tmp_path / "a.json", values).read_text()) == values
    table = write_csv(tmp_path / "a.csv", ["x", "y"], [[1, "a, b"], [2, ""]])
    with table.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"x": "1", "y": "a, b"}, {"x": "2", "y": ""}]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "a.json", "a.csv"}


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "before")

    def rows() -> Iterator[list[int]]:
        yield [1]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_csv(path, ["x"], rows())
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert path.read_text() == "before"
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped, replacing(tmp_path / "folder") as new:
        new.mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_folders_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="folder must be there"):
        write_text(tmp_path / "nowhere" / "a.txt", "")
