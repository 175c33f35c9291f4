"""Official files stand in for those of a data set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from official_files import (
    Files,
    Register,
    md5,
)

from neurosim.data.catalogue import SOURCES, Source
from neurosim.data.official import Member, Official


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Make these the official files of a data set: as published, and as unpacked."""

    def replaced(file: Official, published: Files, unpacked: Files) -> Official:
        members = tuple(Member(m.name, md5(unpacked[m.name])) for m in file.members)
        return replace(file, md5=md5(published[file.name]), members=members)

    def register(name: str, published: Files, unpacked: Files) -> None:
        source = SOURCES[name]
        assert isinstance(source, Source)
        files = tuple(replaced(file, published, unpacked) for file in source.files)
        monkeypatch.setitem(SOURCES, name, replace(source, files=files))

    return register
