"""What the SWAG paper reports of the activations of random networks, at the smallest size that shows it.

At 64 pixels every bound held on each of three drawn images with each of six seeds (growths of 39 and 136 or more,
last entropies of 0.035 and 0.07 or less). At 48 pixels it did so narrowly, and at 32, where ResNet50 ends in a single
position, it did not. The bounds of peaks held on each of two images with each of three seeds; the numbers next to them
are what was found there.
"""

import functools

import jax
import pytest

from swag_jax import sample
from swag_jax.measure.activations import RAW, SMOOTHINGS, activation_statistics, label

RESIDUAL = ("resnet50", "pseudo_resvgg")
PLAIN = ("no_resnet50", "pseudo_vgg")

SMOOTHED, AUTO = map(label, SMOOTHINGS)
"""The paper's, a softmax over everything with T = 1, and ours."""

STAGES = list(range(5))


@functools.cache
def of(name, measure, smoothing=RAW):
    """A statistic of a network by stage, as a mean over two images."""
    return statistics(name).line(measure, smoothing=smoothing)


@functools.cache
def statistics(name):
    images = {"cat": sample("cat", size=86)[:64, 11:75], "embers": sample("embers", size=64)}  # one shape: one program
    alone = jax.local_devices()[:1]  # on eight, two images would be filled up to eight
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: alone)
        patch.setattr(jax, "local_device_count", lambda: 1)
        return activation_statistics(images, [name]).networks[name]


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_all_begin_with_small_maxima(name):
    assert list(of(name, "max")) == STAGES
    assert 0.5 < of(name, "max")[0] < 2.5


@pytest.mark.parametrize("name", RESIDUAL)
def test_with_residual_connections_maxima_grow_and_entropy_falls(name):
    maxima = of(name, "max")
    assert maxima[4] > 20 * maxima[0]
    assert of(name, "entropy")[4] < 0.2
    assert of(name, "gram_max")[4] > 20**2 * of(name, "gram_max")[0]
    assert of(name, "gram_entropy")[4] < 0.2


@pytest.mark.parametrize("name", PLAIN)
def test_without_them_maxima_stay_small_and_entropy_high(name):
    assert max(of(name, "max").values()) < 2.5
    assert min(of(name, "entropy").values()) > 0.99
    assert min(of(name, "gram_entropy").values()) > 0.99


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_behind_the_softmax_every_entropy_is_high(name):
    """As the paper reports; of numbers that sum to one it could hardly be otherwise. Peaks say more, below."""
    for measure in ("entropy", "gram_entropy"):
        line = of(name, measure, SMOOTHED)
        assert list(line) == STAGES
        assert min(line.values()) > 0.99


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_raw_peaks_are_alike_so_growth_is_one_of_scale(name):
    """Found: 4.5 to 8.4, with residual connections and without, from the stem to the last stage."""
    line = of(name, "peak")
    assert list(line) == STAGES
    assert 4 < min(line.values()) <= max(line.values()) < 10


@pytest.mark.parametrize(("name", "channels"), [("resnet50", 2048), ("pseudo_resvgg", 512)])
def test_the_softmax_leaves_residual_networks_a_single_entry(name, channels):
    """Found: 15 to 20 times as peaky as raw, of 8192 entries, and Gram matrices of which one entry is left."""
    raw, smoothed = (of(name, "peak", kind)[4] for kind in (RAW, SMOOTHED))
    assert smoothed > 10 * raw
    assert smoothed > 0.9 * 8192**0.5
    assert of(name, "gram_peak", SMOOTHED)[4] > 0.9 * channels


@pytest.mark.parametrize("name", PLAIN)
def test_the_softmax_flattens_the_others(name):
    """Found: at most 1.3, where 1 is a constant."""
    assert of(name, "peak", SMOOTHED)[4] < 1.5


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_with_auto_peaks_stay_bounded(name):
    """Found: at most 18, and 2.1 times the raw ones."""
    raw, smoothed = (of(name, "peak", kind) for kind in (RAW, AUTO))
    assert max(smoothed.values()) < 25
    assert all(smoothed[stage] < 3 * raw[stage] for stage in STAGES)
