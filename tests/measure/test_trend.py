"""What the SWAG paper reports of the activations of random networks, at the smallest size that shows it.

At 64 pixels every bound held on each of three drawn pictures with each of six seeds (growths of 39 and 136 or more,
last entropies of 0.035 and 0.07 or less). At 48 pixels it did so narrowly, and at 32, where ResNet50 ends in a single
position, it did not.
"""

import pytest

from swag_jax import sample
from swag_jax.measure.activations import SMOOTHINGS, activation_statistics, label

RESIDUAL = ("resnet50", "pseudo_resvgg")
PLAIN = ("no_resnet50", "pseudo_vgg")

SMOOTHED = SMOOTHINGS[0]
"""The paper's: a softmax over everything with T = 1."""

STAGES = list(range(5))


@pytest.fixture(scope="module")
def networks():
    pictures = {name: sample(name, size=64) for name in ("cat", "embers")}
    return activation_statistics(pictures, [*RESIDUAL, *PLAIN], smoothings=[SMOOTHED]).networks


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
    for measure in ("entropy", "gram_entropy"):
        line = networks[name].line(measure, smoothing=label(SMOOTHED))
        assert list(line) == STAGES
        assert min(line.values()) > 0.99
