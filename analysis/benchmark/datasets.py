"""Neural data that can be had freely, as benchmarks.

The files are .npz archives of plain arrays, which are looked for in the data folder:

    primate_it_92.npz   Kriegeskorte et al. 2008, as rsatoolbox's demonstration has it
        images (92, height, width, 3), rdm_monkey_it (92, 92),
        rdm_human_it_subject_session (people, sessions, 92, 92), the same with _names (strings such
        as "hIT | BE | Session: 1"), rdm_human_similarity_judgement (people, 92, 92)
    macaque_v4.npz      Cowley et al. 2023, for each of `SESSIONS` with S its name
        sS_jpeg (bytes of all images), sS_offsets (where each begins, and the end),
        sS_responses (neurons, images), and, where repetitions are known,
        sS_responses_raw (neurons, images, repetitions)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from analysis.benchmark.form import Benchmark, Dissimilarities, Measured, Recording
from analysis.representations.stimuli import Pictures, read_image
from neurosim.errors import InvalidArgument, NeurosimError, require_choice

KRIEGESKORTE = "Kriegeskorte et al. 2008, Neuron 60:1126"
COWLEY = "Cowley, Stan, Pillow & Smith 2023, Compact deep neural network models of visual cortex"
SESSIONS = ("190923", "210225", "210325", "210621")


def kriegeskorte2008(path: str | Path) -> Benchmark:
    """92 images: monkey IT, IT of four people (sessions averaged), 16 people's judgements.

    Monkey IT is one matrix of 674 neurons, so that it has no noise ceiling.
    """
    with _archive(path) as file:
        images = file["images"]
        people = file["rdm_human_it_subject_session"].mean(1)
        labels = file["rdm_human_it_subject_session_names"][:, 0]
        judges = file["rdm_human_similarity_judgement"]
        monkey = file["rdm_monkey_it"][None]
    count = len(images)
    names = tuple(str(label).split("|")[1].strip() for label in labels)
    measured: dict[str, Measured] = {
        "monkey IT": Dissimilarities(monkey, ("monkeys",)),
        "human IT": Dissimilarities(people, names),
        "judgements": Dissimilarities(judges, tuple(f"subject{i + 1}" for i in range(len(judges)))),
    }
    ids = tuple(f"image{number + 1:02d}" for number in range(count))
    return Benchmark("Kriegeskorte2008", Pictures(ids, images), measured, citation=KRIEGESKORTE)


def cowley2023(path: str | Path, session: str = "210325") -> Benchmark:
    """Natural images and spike counts of V4 neurons in one session.

    Only 210325 has its repetitions, ten of each image, and hence a ceiling.
    """
    require_choice("session", session, SESSIONS)
    with _archive(path) as file:
        encoded, offsets = file[f"s{session}_jpeg"], file[f"s{session}_offsets"]
        if (raw := f"s{session}_responses_raw") in file.files:
            responses = file[raw].transpose(1, 2, 0)  # (images, repetitions, neurons)
        else:
            responses = file[f"s{session}_responses"].T[:, None]
    ids = tuple(f"{session}-{number:04d}" for number in range(len(offsets) - 1))
    images = [
        read_image(BytesIO(encoded[start:stop].tobytes()), name)
        for name, start, stop in zip(ids, offsets[:-1], offsets[1:], strict=True)
    ]
    neurons = tuple(f"{session}-{number}" for number in range(responses.shape[2]))
    return Benchmark(
        f"Cowley2023-{session}",
        Pictures(ids, np.stack(images)),
        {"V4": Recording(responses.astype(np.float64), neurons)},
        citation=COWLEY,
    )


DATASETS: dict[str, tuple[str, Callable[[Path], Benchmark]]] = {
    "kriegeskorte2008": ("primate_it_92.npz", kriegeskorte2008),
    "cowley2023": ("macaque_v4.npz", cowley2023),
}
"""By name: the file, and what reads it."""


@contextmanager
def _archive(path: str | Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError as error:
        raise InvalidArgument(
            f"{path}: no such file; --data or $NEUROSIM_DATA says where it is, and "
            "analysis/benchmark/datasets.py what it holds"
        ) from error
    except NeurosimError:
        raise
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise InvalidArgument(f"{path}: cannot be read as an .npz archive ({error})") from error
