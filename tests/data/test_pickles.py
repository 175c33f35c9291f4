"""Pickles of data sets are read, and none of them runs anything."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from official_files import (
    Register,
    cifar10_files,
    global_,
    put,
    random_images,
    tar_gz,
)

from neurosim.data import DataError, load
from neurosim.data.unpickle import read_pickle


class Evil:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_a_malicious_batch_is_refused_and_runs_nothing(tmp_path: Path, register: Register) -> None:
    trace = tmp_path / "executed"
    files, *_ = cifar10_files()
    evil = pickle.dumps({"data": Evil(os.mkdir, str(trace))}, 2)
    files["cifar-10-batches-py/data_batch_2"] = evil
    register("cifar10", {"cifar-10-python.tar.gz": tar_gz(files)}, files)
    put(tmp_path, files)
    with pytest.raises(DataError, match=r"data_batch_2 is refused, .* it refers to \w+\.mkdir"):
        load("cifar10", tmp_path)
    assert not trace.exists()
    pickle.loads(evil)  # the pickle does what it should be prevented from doing
    assert trace.exists()


ARRAY, DTYPE = global_("numpy.core.multiarray", "_reconstruct"), global_("numpy", "dtype")


@pytest.mark.parametrize(
    "evil",
    [
        pickle.dumps(Evil(eval, "1"), 0),
        pickle.dumps({"a": [Evil(exec, "1")]}, 4),
        pickle.dumps(Evil(np.load, "x", None, True), 5),
        pickle.dumps(Evil(getattr, dict, "clear"), 2),
        pickle.dumps(np.array([object()]), 2),
        pickle.dumps(np.zeros(3), 2),  # not bytes
        pickle.dumps({"a": np.float64(3)}, 2),
        pickle.dumps(Path("x"), 2),
        b"\x80\x02" + global_("numpy", "memmap") + b".",
        b"\x80\x02" + global_("numpy.core.multiarray", "scalar") + b".",
        b"\x80\x02" + ARRAY + b"}b.",  # to set attributes of what stands for numpy's names
        b"\x80\x02" + DTYPE + b"}U\x01aU\x01bsb.",
        b"\x80\x02" + DTYPE + b"U\x01O\x85R.",  # objects
        b"\x80\x02" + ARRAY + b")R(K\x01M\xff\xff\x85NNU\x01xtb.",  # no dtype
        b"\x80\x02" + ARRAY + b")R(K\x01M\xff\xff\x85" + DTYPE + b"U\x02u1\x85RNU\x01xtb.",  # short
        b"\x80\x02U\x01aQ.",  # a persistent identifier
        b"\x80\x02\x82\x01.",  # the extension registry
        b"not a pickle at all",
        b"",
        pickle.dumps([1, 2], 2),  # plain, but no dictionary
    ],
)
def test_pickles_that_are_refused(evil: bytes) -> None:
    with pytest.raises(DataError, match=r"^batch (is refused|must hold a dictionary)"):
        read_pickle(evil, "batch")


def test_the_pickles_written_here_are_pickles() -> None:
    """Python's own unpickler reads from them what the tests say they hold."""
    files, images, labels = cifar10_files()
    batch = pickle.loads(files["cifar-10-batches-py/data_batch_2"], encoding="bytes")
    assert batch[b"labels"] == labels[3:6]
    np.testing.assert_array_equal(batch[b"data"][1, :1024].reshape(32, 32), images[4, :, :, 0])
    assert pickle.loads(files["cifar-10-batches-py/batches.meta"])["num_vis"] == 3072


def test_pickles_of_python_3_are_read_too() -> None:
    array = random_images(2, 3, 4)
    content = {"data": array, "labels": [1, 2], "columns first": np.asfortranarray(array)}
    read = read_pickle(pickle.dumps(content, 4), "batch")
    assert read["labels"] == [1, 2]
    np.testing.assert_array_equal(read["data"], array)
    np.testing.assert_array_equal(read["columns first"], array)
