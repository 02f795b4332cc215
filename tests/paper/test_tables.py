"""Tables of experiments: exact numbers of made-up values, and one experiment whole."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import reweighting
import robustness
import table
from experiment import Experiment, parse, run

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
        "| method | SSIM ↑ | content, VGG19 ↓ | content, ResNet50 ↓ |",
        "| --- | --- | --- | --- |",
        "| another image | 4.00 ± 1.00 | 4.00 ± 1.00 | 4.00 ± 1.00 |",
        "| p: raw | 1.50 ± 0.50 | 1.50 ± 0.50* | 1.50 ± 0.50 |",
        "| p: SWAG | 2.05 ± 0.55 | 2.05 ± 0.55* | 2.05 ± 0.55 |",
        "| r: raw (1 of 2 failed) | 1.00 | 1.00 | 1.00 |",
        "| r: SWAG (2 of 2 failed) | - | - | - |",
    ]


def test_differences_beyond_two_standard_errors_are_bold():
    lines = table.markdown_differences(report()).splitlines()
    assert lines[2:] == [
        "| p: SWAG - p: raw | **+0.55 ± 0.05** | **+0.55 ± 0.05** | **+0.55 ± 0.05** |",
        "| r: raw - p: raw | +0.00 | +0.00 | +0.00 |",
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
    labels = ["p-VGG19: none", "p-VGG19: softmax, released units", "p-VGG19: re-weighted, released units"]
    assert robustness.compared(labels) == {
        labels[1]: "p-VGG19: none, released units",
        labels[2]: "p-VGG19: softmax, released units",
    }
    assert reweighting.compared(["r: raw", "r: SWAG, released units", "r: alpha", "r: alpha as weights"]) == {
        "r: SWAG, released units": "r: raw, released units",
        "r: alpha as weights": "r: alpha",
    }


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
    assert made["seconds"] == pytest.approx(sum(one["seconds"] for one in made["rows"]), abs=0.1)
    capsys.readouterr()
    assert run(experiment, tiny)["rows"] == made["rows"]  # the seconds too
    assert "0 programs compiled" in capsys.readouterr().err

    alone = run(dataclasses.replace(experiment, name="alone", pairs="styles"), tiny)
    assert list(alone["table"]) == ["another image", *methods]
    assert list(alone["table"]["r: raw"]) == list(table.SHOWN["styles"])
