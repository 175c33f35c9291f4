"""Downloads, from a server on this machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from official_files import (
    Register,
    check,
    cifar10_files,
    put,
    tar_gz,
)

from neurosim.data import DataError, load
from neurosim.data.catalogue import SOURCES, Source


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    published = tmp_path / "published"
    published.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=published)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", published
        server.shutdown()


def test_downloads(
    tmp_path: Path,
    register: Register,
    server: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pooch")
    url, published = server
    files, images, labels = cifar10_files()
    archive = {"cifar-10-python.tar.gz": tar_gz(files)}
    register("cifar10", archive, files)
    source = SOURCES["cifar10"]
    assert isinstance(source, Source)
    (file,) = source.files
    file = replace(file, url=f"{url}/{file.name}")
    monkeypatch.setitem(SOURCES, "cifar10", replace(source, files=(file,)))
    folder = tmp_path / "data"
    with pytest.raises(DataError, match=r"could not be downloaded \(HTTPError\): put cifar-10"):
        load("cifar10", folder)
    put(published, {file.name: b"something else"})
    with pytest.raises(DataError, match=r"could not be downloaded \(ValueError\): .*md5"):
        load("cifar10", folder)
    assert not (folder / "cifar10" / file.name).exists()
    put(published, archive)
    check(load("cifar10", folder), images, labels, 15)
    (published / file.name).unlink()
    check(load("cifar10", folder), images, labels, 15)  # from what was downloaded


def test_without_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match="pooch, which would download it, is not installed"):
        load("svhn", tmp_path)
