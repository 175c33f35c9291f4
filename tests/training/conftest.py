"""Small runs: a few images of three classes, a small network, a second or less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scenes import settings_of, write_images

from neurosim.training import TrainSettings


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., TrainSettings]:
    """Settings of a small run, but for the options given."""
    images = write_images(tmp_path / "images.npz")
    return lambda **options: settings_of(images, **options)
