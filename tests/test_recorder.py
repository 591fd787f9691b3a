"""The recorder keeps what the run passes through, and its pictures show it."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffusion_adapters import load
from expint import Recorder, sample
from expint.schedules import VP
from expint.targets import GaussianMixture

TARGET = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], 0.3, [1.0, 2.0], VP())


def test_it_keeps_every_step_and_the_last():
    whole, some = Recorder(), Recorder(every=4)
    result = sample(TARGET, (3, 2), "seeds-2", steps=10, callback=whole, progress=False)
    sample(TARGET, (3, 2), "seeds-2", steps=10, callback=some, progress=False)
    assert (
        whole.steps == list(range(1, 11)) and some.steps == [4, 8, 10] and some.nfe == [8, 16, 19]
    )
    assert torch.equal(whole.trajectories()[-1], result) and torch.equal(
        some.trajectories(), whole.trajectories()[[3, 7, 9]]
    )
    assert torch.equal(whole.denoised[-1], result) and whole.times[-1] == 0.0


def drawn(recorder: Recorder, what: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    getattr(recorder, what)(buffer, **options)
    return Image.open(buffer)


def test_pixels_on_both_axes(tmp_path: Path):
    for recorder in (Recorder(), Recorder(VP())):
        sample(TARGET, (3, 2), "seeds-2", steps=6, callback=recorder, progress=False)
        assert min(drawn(recorder, "plot_pixels").size) > 300
    recorder.plot_pixels(tmp_path / "pixels.svg", [1], sample=2)
    assert (tmp_path / "pixels.svg").read_text().startswith("<?xml")
    other = Recorder(VP())
    sample(TARGET, (3, 2), "seeds-2", steps=6, seed=9, callback=other, progress=False)
    assert drawn(recorder, "plot_pixels").tobytes() != drawn(other, "plot_pixels").tobytes()


def test_previews_of_images():
    recorder = Recorder()
    sample(load("digits-vp"), (2, 1, 8, 8), "seeds-1", steps=5, callback=recorder, progress=False)
    wide, narrow = drawn(recorder, "plot_previews"), drawn(recorder, "plot_previews", columns=2)
    assert wide.size[0] > narrow.size[0] and wide.size[1] == narrow.size[1]


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Recorder(every=0)
    with pytest.raises(ValueError, match="Nothing was recorded"):
        Recorder().plot_pixels(io.BytesIO())
    recorder = Recorder()
    sample(TARGET, (3, 2), "seeds-1", steps=2, callback=recorder, progress=False)
    with pytest.raises(ValueError, match="pixels 0 to 1 and samples 0 to 2"):
        recorder.plot_pixels(io.BytesIO(), [2])
    with pytest.raises(ValueError, match="pixels 0 to 1 and samples 0 to 2"):
        recorder.plot_pixels(io.BytesIO(), sample=3)
    with pytest.raises(ValueError, match=r"images .*, got events of shape \(2,\)"):
        recorder.plot_previews(io.BytesIO())
