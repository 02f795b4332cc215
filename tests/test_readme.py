"""The README and the other pages: their Python runs, their commands parse, their links lead somewhere, CI agrees."""

import re
import shlex
from pathlib import Path

import jax
import pytest

from swag_jax.cli import parse
from swag_jax.params.manifest import checkpoint
from swag_jax.presets import PRESETS, of_backbone

ROOT = Path(__file__).parents[1]
README, GUIDE, API, SPEED, PAPER, WEIGHTS = PAGES = (
    "README.md",
    "swag_jax/README.md",
    "swag_jax/API.md",
    "benchmarks/README.md",
    "benchmarks/paper/README.md",
    "weights/README.md",
)
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}

SHOWN = (README, GUIDE, SPEED, PAPER)
"""Pages whose commands can be copied as they stand."""

MOST_LINES = 220
"""Lines that the README may have."""

COMMANDS = {"apply", "batch", "demo", "measure", "stats", "stylize", "train", "ui", "weights"}

DEMO = "python3 -m venv .venv && .venv/bin/python -m pip install . && .venv/bin/swag-jax demo"
TEST = "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]' && .venv/bin/python -m pytest -n 2"


def blocks(page, language):
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def prose(page):
    return re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)


def inline(page):
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]


def commands(page):
    """Every command of the bash blocks, and every `swag-jax ...` in the text, as words.

    A command that the text calls by its name alone is asked for its help.
    """
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    named = [text for text in inline(page) if text.startswith("swag-jax ")]
    lines += [f"{text} --help" if len(text.split()) == 2 else text for text in named]
    found = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in found if words]


def ours(page):
    return [words for words in commands(page) if Path(words[0]).name == "swag-jax"]


def local_links(page):
    """Every link of a page that does not leave the repository: the file it leads to, and the heading there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            file, _, heading = target.partition("#")
            yield (ROOT / page).parent / file if file else ROOT / page, heading


def headings(text):
    """The addresses that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_readme_is_one_page():
    assert len(TEXTS[README].splitlines()) <= MOST_LINES


def test_python_runs(tmp_path, monkeypatch):
    """The README's blocks, then those of the guide, which go on with the same names, on a machine of one device."""
    alone = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: alone)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for page in (README, GUIDE):
        for number, block in enumerate(blocks(page, "python"), start=1):
            small = re.sub(r"\bsteps=\d+", "steps=2", re.sub(r"\bsize=\d+", "size=48", block))
            exec(compile(small, f"{page}, Python block {number}", "exec"), namespace)
    assert (tmp_path / "coffee_swirls.png").is_file()
    assert namespace["images"].shape == (2, 36, 48, 3)
    assert float(namespace["total"]) == pytest.approx(sum(map(float, namespace["terms"].values())))
    assert namespace["curvature"].shape == namespace["painted"].shape == (36, 48, 3)
    assert namespace["served"].shape == (1, 36, 48, 3)
    assert [outcome.error for outcome in namespace["results"].outcomes] == [None, None]


@pytest.mark.parametrize("page", [SPEED, PAPER, API, WEIGHTS])
def test_other_pages_have_no_python(page):
    assert blocks(page, "python") == []


@pytest.mark.parametrize(
    "words", list(dict.fromkeys(tuple(words) for page in SHOWN for words in ours(page))), ids=" ".join
)
def test_command_line_parses(words):
    if "--help" in words:
        with pytest.raises(SystemExit) as ended:
            parse(words[1:])
        assert ended.value.code == 0
        return
    command = parse(words[1:])
    if hasattr(command, "chosen"):
        command.chosen()
    if "fetch" in words:
        assert all(checkpoint(name).kind == "imagenet" for name in command.names)


@pytest.mark.parametrize("page", [README, GUIDE])
def test_every_command_is_shown(page):
    assert {words[1] for words in ours(page)} == COMMANDS


def test_the_readme_says_where_each_command_explains_itself():
    named = [text.split() for text in inline(README)]
    helped = {words[1] for words in named if words[::2] == ["swag-jax", "--help"]}
    assert helped == COMMANDS - {"demo"}


@pytest.mark.parametrize("page", [README, GUIDE])
def test_flags_in_the_text_exist(page, capsys):
    for command in ("stylize", "batch", "measure", "stats", "apply", "train adain", "ui", "weights convert"):
        with pytest.raises(SystemExit):
            parse([*command.split(), "--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    named = {flag for text in inline(page) for flag in re.findall(r"--[a-z][a-z-]*", text)}
    assert named - known == set()


def test_the_table_of_presets_is_complete_and_starts_with_the_defaults():
    rows = [line for line in TEXTS[README].splitlines() if re.match(r"\| `(gatys-|swag-|fast`)", line)]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(PRESETS)
    firsts = {}
    for name in names:
        firsts.setdefault(PRESETS[name].backbone, name)
    assert all(of_backbone(backbone) is PRESETS[name] for backbone, name in firsts.items())


@pytest.mark.parametrize("page", PAGES)
def test_local_links_lead_to_files_and_headings(page):
    links = list(local_links(page))
    assert [file for file, _ in links if not file.is_file()] == []
    assert [h for file, h in links if h and h not in headings(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_scripts_that_are_run_exist(page):
    lines = "\n".join(line for block in blocks(page, "bash") for line in block.splitlines()) + "\n".join(inline(page))
    scripts = re.findall(r"^python ((?:benchmarks|tests|weights)/\S+\.py)", lines, flags=re.MULTILINE)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_set_up_commands_are_those_of_ci():
    """The README's two; after the same set-up, CI's last line is the command that ends the second."""
    assert [line for block in blocks(README, "bash") for line in block.splitlines() if "-m venv" in line] == [
        DEMO,
        TEST,
    ]
    assert TEST.endswith(" && .venv/bin/python -m pytest -n 2")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").endswith("\npython -m pytest -n 2\n")
