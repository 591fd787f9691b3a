"""The networks that come with the package: they load safely, sample digits, and say what is wrong
with damaged files.
"""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import safetensors.torch
import torch

import expint
from diffusion_adapters import load, load_classifier, names
from diffusion_adapters.shipped.files import load_network
from expint.schedules import Schedule

# Without digits-cld, whose state has a velocity: tests/test_phase_space_samples.py.
SCALAR = [name for name in names() if isinstance(load(name).schedule, Schedule)]
DIGITS = [name for name in names() if name.startswith("digits")]
FOLDER = Path(str(files("diffusion_adapters.shipped"))) / "data"


def test_there_is_one_network_of_each_family_and_the_showpiece():
    digits = {"digits-vp", "digits-ve", "digits-iddpm", "digits-edm", "digits-cld"}
    assert set(names()) >= digits | {"mnist-edm"}
    assert set(names()) - set(SCALAR) == {"digits-cld"}


@pytest.mark.parametrize("name", names())
def test_sizes_and_cards(name):
    size = (FOLDER / f"{name}.safetensors").stat().st_size
    assert size <= (2 if name.startswith("mnist") else 1) * 2**20 * 1.05
    card = load(name).card
    assert {"family", "schedule", "prediction", "data", "training", "metrics"} <= set(
        card
    ) and card["metrics"]


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("form", ["data", "noise", "precond"])
def test_every_network_samples_in_every_form(name, form):
    model = load(name)
    model.sigma_data = model.sigma_data or 0.75
    # Without noise: with it the noise form needs shorter steps than these to stay bounded.
    samples = expint.sample(
        model, (2, *model.shape), "seeds-2", steps=12, form=form, ell=0.0, progress=False
    )
    assert torch.isfinite(samples).all() and samples.abs().max() < 3


def test_class_conditional_digits_are_what_was_asked_for():
    """200 samples; the classifier agrees with 99 % of them, so that 95 % is 5.7 standard deviations
    away.
    """
    labels = torch.arange(200) % 10
    model = load("digits-edm", labels=labels)
    samples = expint.sample(model, (200, *model.shape), "seeds-3", nfe=58, progress=False)
    classifier, _ = load_classifier("digits-classifier")
    accuracy = (classifier(samples).argmax(1) == labels).double().mean().item()
    assert accuracy >= 0.95


@pytest.mark.parametrize("name", DIGITS)
def test_unconditional_digits_are_recognised(name):
    """A classifier is sure of real digits; of noise, of blurs and of averages it is not.

    100 samples, fixed seeds.
    """
    model = load(name)
    samples = expint.sample(model, (100, *model.shape), "seeds-3", nfe=58, progress=False)
    classifier, _ = load_classifier("digits-classifier")
    sure = torch.softmax(classifier(samples), 1).max(1).values
    assert (sure > 0.8).double().mean() > 0.8
    assert len(classifier(samples).argmax(1).unique()) == 10


def test_unknown_names_tell_the_nearest():
    with pytest.raises(ValueError, match="digits-edm"):
        load("digit-edm")
    with pytest.raises(ValueError, match="not class-conditional"):
        load("digits-vp", labels=[1])


@pytest.fixture
def copy(tmp_path):
    for suffix in ("json", "safetensors"):
        shutil.copy(FOLDER / f"digits-vp.{suffix}", tmp_path)
    return tmp_path


def damage_truncate(folder):
    file = folder / "digits-vp.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def damage_missing_key(folder):
    file = folder / "digits-vp.safetensors"
    weights = safetensors.torch.load(file.read_bytes())
    weights.pop(sorted(weights)[0])
    safetensors.torch.save_file(weights, file)


def damage_shape(folder):
    file = folder / "digits-vp.safetensors"
    weights = safetensors.torch.load(file.read_bytes())
    key = next(key for key, value in weights.items() if value.ndim == 1)
    weights[key] = weights[key][:-1].clone()
    safetensors.torch.save_file(weights, file)


def damage_nan(folder):
    file = folder / "digits-vp.safetensors"
    weights = safetensors.torch.load(file.read_bytes())
    key = sorted(weights)[0]
    weights[key] = torch.full_like(weights[key], float("nan"))
    safetensors.torch.save_file(weights, file)


def damage_card(folder):
    (folder / "digits-vp.json").write_text("{", encoding="utf-8")


def damage_family(folder):
    file = folder / "digits-vp.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"family": "gan"}),
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "cut short"),
        (damage_missing_key, "missing"),
        (damage_shape, "instead of"),
        (damage_nan, "1 NaN: "),
        (damage_card, "JSON"),
        (damage_family, "gan"),
    ],
)
def test_damaged_files_are_named(copy, damage, message):
    load_network("digits-vp", copy)
    damage(copy)
    with pytest.raises(ValueError, match=message) as caught:
        load_network("digits-vp", copy)
    assert "digits-vp." in str(caught.value)
