"""Tables of experiments: exact numbers of made-up values, and one experiment whole."""

import dataclasses
import json
import sys

import architectures
import networks
import numpy as np
import presets
import pytest
import reconstruction
import reweighting
import smoothings
import table
import textures
from experiment import Experiment, cell, chosen_pairs, parse, run
from methods import method

from swag_jax.cli._pairs import from_file
from swag_jax.cli._settings import MaskedPairFlags

SHOWN = table.SHOWN["contents"]


def row(*values):
    return {name: table.numbers(values) for name in SHOWN}


def report(**changes):
    rows = {
        "another image": row(3.0, 5.0),
        "p: raw": row(1.0, 2.0),
        "p: SWAG": row(1.5, 2.6),
        "r: raw": row(1.0, None),
    }
    references = {"p: SWAG": "p: raw", "r: raw": "p: raw", "r: SWAG": "r: raw"}
    return {
        "kind": "contents",
        "pairs": ["a", "b"],
        "methods": dict.fromkeys(("p: raw", "p: SWAG", "r: raw", "r: SWAG")),
        "backbones": {"p: raw": "vgg19", "p: SWAG": "vgg19"},
        "failed": {"r: raw": 1, "r: SWAG": 2},
        "table": rows,
        "differences": table.differences(rows, references),
        **changes,
    }


def test_numbers_leave_out_failures():
    found = table.numbers([1.0, None, 2.0])
    assert (found["mean"], found["error"], found["values"]) == (1.5, 0.5, [1.0, None, 2.0])


def test_differences_are_taken_pair_by_pair():
    found = report()["differences"]
    assert list(found) == ["p: SWAG - p: raw", "r: raw - p: raw"]  # what failed everywhere has none
    assert found["p: SWAG - p: raw"]["ssim"]["values"] == [0.5, 0.6]
    np.testing.assert_allclose(found["p: SWAG - p: raw"]["ssim"]["error"], 0.05)
    assert found["r: raw - p: raw"]["ssim"] == {"mean": 0.0, "error": None, "values": [0.0, None]}


def test_markdown_says_what_failed_and_who_judged_itself():
    assert table.markdown(report()).splitlines() == [
        "| method | SSIM ↑ | content, VGG19 ↓ | content, ResNet50 ↓ | content, EfficientNet ↓ | noise ↓ |",
        "| --- | --- | --- | --- | --- | --- |",
        "| another image | 4.00 ± 1.00 | 4.00 ± 1.00 | 4.00 ± 1.00 | 4.00 ± 1.00 | 4.000 ± 1.000 |",
        "| p: raw | 1.50 ± 0.50 | 1.50 ± 0.50* | 1.50 ± 0.50 | 1.50 ± 0.50 | 1.500 ± 0.500 |",
        "| p: SWAG | 2.05 ± 0.55 | 2.05 ± 0.55* | 2.05 ± 0.55 | 2.05 ± 0.55 | 2.050 ± 0.550 |",
        "| r: raw (1 of 2 failed) | 1.00 | 1.00 | 1.00 | 1.00 | 1.000 |",
        "| r: SWAG (2 of 2 failed) | - | - | - | - | - |",
    ]


def test_differences_beyond_two_standard_errors_are_bold():
    lines = table.markdown_differences(report()).splitlines()
    assert lines[2:] == [
        f"| p: SWAG - p: raw |{' **+0.55 ± 0.05** |' * 4} **+0.550 ± 0.050** |",
        f"| r: raw - p: raw |{' +0.00 |' * 4} +0.000 |",
    ]


def test_a_matrix_has_groups_and_kinds():
    baselines = {label: row(0.0, 2.0) for label in table.BASELINES}
    lines = table.matrix(report(table={**baselines, **report()["table"]}), "content/vgg19").splitlines()
    assert lines == [
        "| content, VGG19 ↓ | raw | SWAG |",
        "| --- | --- | --- |",
        "| output = content | 1.00 ± 1.00 |  |",
        "| output = style | 1.00 ± 1.00 |  |",
        "| p | 1.50 ± 0.50* | 2.05 ± 0.55* |",
        "| r | 1.00 | - |",
    ]


def test_what_is_compared_with_what():
    labels = ["p, released: raw", "p, released: SWAG", "p, relative: re-weighted", "r, released: factor as weights"]
    assert reweighting.compared(labels) == {
        labels[1]: labels[0],
        labels[2]: "p, relative: SWAG",
        labels[3]: "r, released: factor",
    }


def test_a_method_says_all_that_the_paper_leaves_to_a_preset():
    """Of no preset but its layers: pixels, no variation, published weights; smoothed on the last two stages."""
    assert method("p-ResNet50", smoothing="SWAG") == {
        "preset": "gatys-resnet50",
        "backbone": "resnet50",
        "weights": "embedded",
        "tv-weight": 0,
        "spectral-decay": 0,
        "normalization": "released",
        "content-weight": 1,
        "style-weight": 1e17,
        "style-layer-weights": "1,1,1,1,1",
        "smoothing": "channel-softmax",
        "temperature": 1,
        "smoothing-layers": "conv4_6,conv5_3",
    }
    plain = method("r-VGG19", "relative", init="noise")
    assert (plain["weights"], plain["smoothing"], plain["init"]) == ("random", "none", "noise")
    assert "style-layer-weights" not in plain


SCRIPTS = [
    *architectures.EXPERIMENTS,
    networks.experiment("imagenet"),
    presets.experiment(60),
    reconstruction.EXPERIMENT,
    smoothings.EXPERIMENT,
    textures.EXPERIMENT,
]


@pytest.mark.parametrize("experiment", SCRIPTS, ids=lambda experiment: experiment.name)
def test_every_flag_of_every_figure_is_understood(experiment, tmp_path):
    lines = [json.dumps({"content": "a.png", "style": "b.png", "name": label.replace("/", "-"), **flags})
             for label, flags in experiment.methods.items()]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    jobs = from_file(path, MaskedPairFlags())
    assert len(jobs) == len(experiment.methods)
    assert set(experiment.references) <= set(experiment.methods) >= set(experiment.references.values())


def test_methods_that_two_figures_share_are_one_image(tiny):
    shared = set(map(frozenset, map(dict.items, architectures.EXPERIMENTS[0].methods.values())))
    both = {frozenset(flags.items()) for flags in smoothings.EXPERIMENT.methods.values()} & shared
    assert len(both) == 4  # raw and SWAG, trained and random
    pair = chosen_pairs(tiny)[0]
    names = {cell(flags, pair, tiny) for flags in smoothings.EXPERIMENT.methods.values()}
    assert len(names) == len(smoothings.EXPERIMENT.methods)


def test_weights_that_no_reading_can_change_are_those_of_the_softmax(tiny):
    """Re-weighted raw losses have the softmax's gradient lengths, on average over the pairs."""
    pairs = chosen_pairs(tiny)
    flags = reweighting.reweighted("r-ResNet50", "released", pairs, 64)
    assert flags["smoothing"] == "none"
    weights = [float(x) for x in flags["style-layer-weights"].split(",")]
    assert weights[:3] == [1, 1, 1]  # what is not smoothed keeps its weight
    assert all(weight != 1 for weight in [*weights[3:], flags["content-weight"]])


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    pairs = ["--pair", "coffee", "swirls", "--pair", "cat", "dots"]
    monkeypatch.setattr(sys, "argv", ["x", "--size", "32", "--steps", "1", "-o", str(tmp_path), *pairs])
    return parse("An experiment")


def test_an_experiment_is_painted_measured_and_found_again(tiny, capsys):
    random = {"preset": "gatys-vgg19", "weights": "random", "style-layers": "relu1_1", "content-layers": "relu1_1"}
    methods = {"r: raw": random, "r: SWAG": {**random, "preset": "swag-vgg19"}}
    experiment = Experiment("tiny", "An experiment", methods, references={"r: SWAG": "r: raw"})
    made = run(experiment, tiny)
    assert json.loads((tiny.output / "tiny.json").read_text()) == made
    assert made["failed"] == {}
    assert list(made["table"]) == [*table.BASELINES, *methods]
    assert made["table"]["output = content"]["ssim"]["values"] == [1.0, 1.0]
    assert made["settled"] == dict.fromkeys(methods, 2)  # one step takes nothing off
    assert made["seconds"] == pytest.approx(sum(one["seconds"] for one in made["rows"]), abs=0.1)
    capsys.readouterr()
    assert run(experiment, tiny)["rows"] == made["rows"]  # the seconds too
    assert "0 programs compiled" in capsys.readouterr().err

    alone = run(dataclasses.replace(experiment, name="alone", pairs="styles"), tiny)
    assert list(alone["table"]) == ["another image", *methods]
    assert list(alone["table"]["r: raw"]) == list(table.SHOWN["styles"])
