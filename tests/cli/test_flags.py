"""Flags from dataclasses: what each takes, what its help says, and what is refused."""

import dataclasses
import shlex
from typing import Literal

import pytest

from swag_jax._checks import UserError
from swag_jax.cli import COMMANDS, demo
from swag_jax.cli._flags import RENAMED, Group, Parser, add_flags, attribute_help, build, changed, flag, word
from swag_jax.cli._settings import PairFlags, default_text
from swag_jax.losses import Objective
from swag_jax.optimize import StylizeSettings
from swag_jax.presets import PRESETS, of_backbone
from swag_jax.smoothing import Smoothing

OWNERS = (StylizeSettings(), StylizeSettings().objective, Smoothing())


@pytest.fixture(scope="module")
def parser():
    parser = Parser(prog="test")
    add_flags(parser, PairFlags)
    return parser


def settings_of(parser, line):
    return build(PairFlags, parser.parse_args(shlex.split(line))).chosen()


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: type(owner).__name__)
def test_every_setting_has_a_flag_with_its_docstring_and_default(parser, owner):
    documented, shown = attribute_help(type(owner)), " ".join(parser.format_help().split())
    for field in dataclasses.fields(owner):
        if not dataclasses.is_dataclass(getattr(owner, field.name)) and field.name != "init":
            assert f"--{RENAMED.get(field.name, field.name).replace('_', '-')}" in parser.flags
            assert f"(default: {default_text(owner, field.name)})" in shown
        assert documented[field.name]


def test_names_of_flags_do_not_collide():
    names = [field.name for owner in OWNERS for field in dataclasses.fields(owner)]
    assert len(set(names)) == len(names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A class.

    Attributes:
        one: First line
            and second.
        two: Other.
        three: Of two, 100 %.
        words: Some words.
    """

    one: int | None = None
    two: bool = False
    three: Literal["a", "b"] = "a"
    four: tuple[float | Literal["auto"], ...] = ()
    words: tuple[str, ...] = word("WORD", default=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inheriting(Sample):
    """Another class.

    Attributes:
        four: Numbers.
        five: Must be given.
    """

    five: str = flag(short="-f")


def test_attribute_help_joins_lines_and_classes():
    assert attribute_help(Inheriting)["one"] == "First line and second"
    assert attribute_help(Inheriting)["five"] == "Must be given"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-f x", Inheriting(five="x")),
        ("a b --five x --one 3 --two", Inheriting(five="x", one=3, two=True, words=("a", "b"))),
        ("--five=x --three b --four 1,auto", Inheriting(five="x", three="b", four=(1.0, "auto"))),
    ],
)
def test_fields_are_flags(line, expected):
    parser = Parser(prog="test")
    add_flags(parser, Inheriting)
    assert build(Inheriting, parser.parse_args(line.split())) == expected


def test_changes_reach_every_level():
    given = {"size": 64, "objective.style_weight": 3.0, "objective.smoothing.kind": "softmax"}
    found = changed(StylizeSettings(), given)
    objective = dataclasses.replace(found.objective, style_weight=60.0, smoothing=Smoothing())
    assert found.size == 64
    assert (found.objective.style_weight, found.objective.smoothing) == (3.0, Smoothing("softmax"))
    assert dataclasses.replace(found, size=512, objective=objective) == StylizeSettings()


@pytest.mark.parametrize(
    ("owner", "name", "text"),
    [
        (StylizeSettings(), "backbone", "vgg19"),
        (StylizeSettings(), "steps", "by preset; gatys-vgg19: 200"),
        (StylizeSettings(), "blend", "none given"),
        (Smoothing(), "layers", "by preset; gatys-vgg19: all"),
        (Objective(), "style_weight", "by preset; gatys-vgg19: 60.0"),
    ],
)
def test_default_text(owner, name, text):
    assert default_text(owner, name) == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", PRESETS["gatys-vgg19"]),
        ("--backbone resnet50", PRESETS["swag-resnet50"]),
        ("--backbone resnet18", of_backbone("resnet18")),
        ("--preset swag-resnet50-paper", PRESETS["swag-resnet50-paper"]),
    ],
)
def test_without_flags_the_backbones_preset(parser, line, expected):
    assert settings_of(parser, line) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_flags_stand_over_every_preset(parser, preset):
    settings = settings_of(parser, f"--preset {preset} --size 99 --tv-weight 2 --temperature 3")
    given = {"size": 99, "objective.tv_weight": 2.0, "objective.smoothing.temperature": 3.0}
    assert settings == changed(PRESETS[preset], given)


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("--size 64", "size", 64),
        ("--learning-rate 0.5", "learning_rate", 0.5),
        ("--solver adam", "solver", "adam"),
        ("--blend 1,2.5", "blend", (1.0, 2.5)),
        ("--blend=3", "blend", (3.0,)),
        ("--weights a/b.pth", "weights", "a/b.pth"),
        ("--colors match", "colors", "match"),
        ("--keep-colors", "colors", "luminance"),
        ("--style-layers 'relu1_1, relu2_1,'", "objective.style_layers", ("relu1_1", "relu2_1")),
        ("--style-weight 1e6", "objective.style_weight", 1e6),
        ("--normalization paper", "objective.normalization", "paper"),
        ("--smoothing softmax", "objective.smoothing.kind", "softmax"),
        ("--temperature 2", "objective.smoothing.temperature", 2.0),
        ("--temperature auto", "objective.smoothing.temperature", "auto"),
        ("--smoothing-scale 0.1", "objective.smoothing.scale", 0.1),
        ("--smoothing-layers relu1_1", "objective.smoothing.layers", ("relu1_1",)),
    ],
)
def test_values(parser, line, path, value):
    assert build(PairFlags, parser.parse_args(shlex.split(line))).settings == {path: value}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--backbone vgg91", "unknown backbone 'vgg91': did you mean vgg19 or vgg16?"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--size -3", "size must be at least 1, got -3"),
        ("--style-weight nan", "style weight must be at least 0 and at most 1e+30, got nan"),
        ("--temperature 0", "temperature must be greater than 0, got 0.0"),
        ("--seed -1", "seed must be at least 0 and at most 4.29497e+09, got -1"),
        ("--seed 99999999999999999999", "seed must be at least 0"),
        ("--blend 0,0", "at least one blend weight must be greater than 0"),
        ("--style-layer-weights 1,2", "there must be one style layer weight per style layer (5), got 2"),
    ],
)
def test_bad_values(parser, unchecked, line, message):
    with pytest.raises(UserError) as caught:
        settings_of(parser, line)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--stlye-weight 3", "unknown flag --stlye-weight: did you mean --style-weight"),
        ("--stlye-weight=3", "unknown flag --stlye-weight: did you mean --style-weight"),
        ("--siz 3", "unknown flag --siz: did you mean --size?"),
        ("--qqqq 3", "unknown flag --qqqq: known: "),
        ("a b", "unexpected a b: put all images together"),
        ("--size big", "argument --size: invalid int value: 'big'"),
        ("--size", "argument --size: expected one argument"),
        ("--blend 1,x", "argument --blend: invalid comma-separated numbers value: '1,x'"),
        ("--temperature warm", "argument --temperature: invalid number or auto value: 'warm'"),
        ("--preset gatys-vgg", "argument --preset: unknown preset 'gatys-vgg': did you mean gatys-vgg19"),
        ("--smoothing softmx", "argument --smoothing: unknown smoothing 'softmx': did you mean softmax"),
        ("--solver lbgfs", "argument --solver: unknown solver 'lbgfs': did you mean lbfgs?"),
        ("--precision fp32", "argument --precision: unknown precision 'fp32'"),
        ("--colors lumnance", "argument --colors: unknown colors 'lumnance': did you mean luminance?"),
    ],
)
def test_bad_usage(parser, line, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(shlex.split(line))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"test: error: {message}")
    assert printed.count("\n") == 1
    assert printed.endswith("(see test --help)\n")


def names_of(group, *before):
    for name in group.commands:
        command = group.command(name)
        yield (*before, name)
        yield from names_of(command, *before, name) if isinstance(command, Group) else ()


@pytest.mark.parametrize("words", [(), *names_of(COMMANDS)], ids=" ".join)
def test_help(command, words):
    shown = command(*words, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: {' '.join(('swag-jax', *words))}")
    assert max(map(len, shown.out.partition("\n\n")[2].splitlines())) <= 80
    assert "`" not in shown.out


def test_demo_shows_its_own_defaults(command):
    shown = " ".join(command("demo", "--help").out.split())
    assert f"in pixels (default: {demo.SIZE})" in shown
    assert f"shared equally among the scales (default: {demo.STEPS})" in shown


def test_version(command):
    shown = command("--version")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("swag-jax ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "swag-jax: error: the following arguments are required: COMMAND"),
        (("styliz",), "swag-jax: error: argument COMMAND: invalid choice: 'styliz'"),
        (("stylize",), "swag-jax stylize: error: the following arguments are required: CONTENT, STYLE, -o/--output"),
        (("stylize", "a.png", "b.png"), "swag-jax stylize: error: the following arguments are required: -o/--output"),
        (("stylize", "a.png", "-o", "c.png"), "swag-jax stylize: error: the following arguments are required: STYLE"),
        (("stylize", "a", "b", "-o", "c.png", "--stye-weight", "3"), "swag-jax stylize: error: unknown flag --stye-w"),
        (("stylize", "a", "b", "-o", "c.png", "d"), "swag-jax stylize: error: unexpected d: put all images"),
        (("demo", "a"), "swag-jax demo: error: unexpected a"),
        (("demo", "--size", "48", "--size", "64"), "swag-jax demo: error: --size is given twice"),
        (("demo", "--size=48", "--steps=2", "--size=64"), "swag-jax demo: error: --size is given twice"),
        (("demo", "-o", "a", "--output", "b"), "swag-jax demo: error: -o is given twice"),
        (("demo", "--weights", "text.jpg", "--weights", "random"), "swag-jax demo: error: --weights is given twice"),
        (("demo", "--quiet", "--quiet"), "swag-jax demo: error: --quiet is given twice"),
        (("batch", "-o", "a", "--sheet", "--no-sheet"), "swag-jax batch: error: --sheet is given twice"),
        (
            ("stylize", "a", "b", "-o", "c.png", "--keep-colors", "--colors", "match"),
            "swag-jax stylize: error: --keep-c",
        ),
        (("stats", "--images", "a", "--images", "b"), "swag-jax stats: error: --images is given twice"),
        (("measure", "a", "b", "c", "--seed", "1", "--seed", "1"), "swag-jax measure: error: --seed is given twice"),
        (("weights", "convert", "a", "-o", "b", "-o", "c"), "swag-jax weights convert: error: -o is given twice"),
        (("train", "adain", "--steps", "1", "--steps", "2"), "swag-jax train adain: error: --steps is given twice"),
        (
            ("apply", "a", "b", "--content-masks", "c", "--content-masks", "d"),
            "swag-jax apply: error: --content-masks is",
        ),
        (("demo", "--\x1b[31mred"), "swag-jax demo: error: unknown flag --\\x1b[31mred"),
        (("demo", "two\nlines\udcff"), "swag-jax demo: error: unexpected two lines\\udcff"),
        (("weights", "fetch", "--quite", "x"), "swag-jax weights fetch: error: unknown flag --quite: did you mean --q"),
    ],
)
def test_bad_usage_is_one_line(command, words, message):
    assert command(*words).problem.startswith(message)


def test_a_folder_named_like_a_start_is_not_meant(tmp_path):
    (tmp_path / "noise").mkdir()
    settings, path = PairFlags(init="noise").chosen_start(tmp_path)
    assert (settings.init, path) == ("noise", None)
