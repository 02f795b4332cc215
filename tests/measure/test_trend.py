"""What the SWAG paper reports of the activations of random networks, at the smallest size that shows it.

At 64 pixels every bound held on each of three drawn images with each of six seeds (growths of 39 and 136 or more,
last entropies of 0.035 and 0.07 or less). At 48 pixels it did so narrowly, and at 32, where ResNet50 ends in a single
position, it did not. The bounds of peaks held on each of two images with each of three seeds; the numbers next to them
are what was found there.
"""

import jax
import pytest

from swag_jax import sample
from swag_jax.measure.activations import RAW, SMOOTHINGS, activation_statistics, label

RESIDUAL = ("resnet50", "pseudo_resvgg")
PLAIN = ("no_resnet50", "pseudo_vgg")

SMOOTHED, AUTO = map(label, SMOOTHINGS)
"""The paper's, a softmax over everything with T = 1, and ours."""

STAGES = list(range(5))


@pytest.fixture(scope="module")
def networks():
    images = {"cat": sample("cat", size=86)[:64, 11:75], "embers": sample("embers", size=64)}  # one shape: one program
    alone = jax.local_devices()[:1]  # on eight, two images would be filled up to eight
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: alone)
        patch.setattr(jax, "local_device_count", lambda: 1)
        return activation_statistics(images, [*RESIDUAL, *PLAIN]).networks


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_all_begin_with_small_maxima(networks, name):
    assert list(networks[name].line("max")) == STAGES
    assert 0.5 < networks[name].line("max")[0] < 2.5


@pytest.mark.parametrize("name", RESIDUAL)
def test_with_residual_connections_maxima_grow_and_entropy_falls(networks, name):
    maxima = networks[name].line("max")
    assert maxima[4] > 20 * maxima[0]
    assert networks[name].line("entropy")[4] < 0.2
    assert networks[name].line("gram_max")[4] > 20**2 * networks[name].line("gram_max")[0]
    assert networks[name].line("gram_entropy")[4] < 0.2


@pytest.mark.parametrize("name", PLAIN)
def test_without_them_maxima_stay_small_and_entropy_high(networks, name):
    assert max(networks[name].line("max").values()) < 2.5
    assert min(networks[name].line("entropy").values()) > 0.99
    assert min(networks[name].line("gram_entropy").values()) > 0.99


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_behind_the_softmax_every_entropy_is_high(networks, name):
    """As the paper reports; of numbers that sum to one it could hardly be otherwise. Peaks say more, below."""
    for measure in ("entropy", "gram_entropy"):
        line = networks[name].line(measure, smoothing=SMOOTHED)
        assert list(line) == STAGES
        assert min(line.values()) > 0.99


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_raw_peaks_are_alike_so_growth_is_one_of_scale(networks, name):
    """Found: 4.5 to 8.4, with residual connections and without, from the stem to the last stage."""
    line = networks[name].line("peak")
    assert list(line) == STAGES
    assert 4 < min(line.values()) <= max(line.values()) < 10


@pytest.mark.parametrize(("name", "channels"), [("resnet50", 2048), ("pseudo_resvgg", 512)])
def test_the_softmax_leaves_residual_networks_a_single_entry(networks, name, channels):
    """Found: 15 to 20 times as peaky as raw, of 8192 entries, and Gram matrices of which one entry is left."""
    raw, smoothed = (networks[name].line("peak", smoothing=kind)[4] for kind in (RAW, SMOOTHED))
    assert smoothed > 10 * raw
    assert smoothed > 0.9 * 8192**0.5
    assert networks[name].line("gram_peak", smoothing=SMOOTHED)[4] > 0.9 * channels


@pytest.mark.parametrize("name", PLAIN)
def test_the_softmax_flattens_the_others(networks, name):
    """Found: at most 1.3, where 1 is a constant."""
    assert networks[name].line("peak", smoothing=SMOOTHED)[4] < 1.5


@pytest.mark.parametrize("name", [*RESIDUAL, *PLAIN])
def test_with_auto_peaks_stay_bounded(networks, name):
    """Found: at most 18, and 2.1 times the raw ones."""
    raw, smoothed = (networks[name].line("peak", smoothing=kind) for kind in (RAW, AUTO))
    assert max(smoothed.values()) < 25
    assert all(smoothed[stage] < 3 * raw[stage] for stage in STAGES)
