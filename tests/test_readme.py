"""The README: its Python runs, its command lines parse, its links lead somewhere, and CI runs its test command."""

import re
import shlex
from pathlib import Path

import pytest

from swag_jax import params
from swag_jax.cli import _parser
from swag_jax.cli._flags import chosen_settings
from swag_jax.presets import OF_BACKBONE, PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`([^`]+)`", PROSE)


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


def commands():
    """Every command of the bash blocks, and every `swag-jax ...` in the text, as words."""
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(text.split()) for text in INLINE if text.startswith("swag-jax ")]
    found = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in found if words]


OURS = [words for words in commands() if Path(words[0]).name == "swag-jax"]


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for number, block in enumerate(blocks("python"), start=1):
        small = re.sub(r"\bsteps=\d+", "steps=2", re.sub(r"\bsize=\d+", "size=48", block))
        exec(compile(small, f"README.md, Python block {number}", "exec"), namespace)
    assert (tmp_path / "coffee_swirls.png").is_file()
    assert namespace["images"].shape == (2, 36, 48, 3)
    assert float(namespace["total"]) == pytest.approx(sum(map(float, namespace["terms"].values())))


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_command_line_parses(words):
    if "--help" in words:
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args(words[1:])
        assert ended.value.code == 0
        return
    arguments = _parser().parse_args(words[1:])
    if hasattr(arguments, "preset"):
        chosen_settings(arguments)
    if "fetch" in words:
        assert all(params.checkpoint(name).kind == "imagenet" for name in arguments.names)


def test_every_command_is_shown():
    assert {words[1] for words in OURS} == {"apply", "batch", "demo", "measure", "stats", "stylize", "train", "weights"}


def test_flags_in_the_text_exist(capsys):
    for command in ("stylize", "batch", "measure", "stats", "apply", "train adain", "weights convert"):
        with pytest.raises(SystemExit):
            _parser().parse_args([*command.split(), "--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    named = {flag for text in INLINE for flag in re.findall(r"--[a-z][a-z-]*", text)}
    assert named - known == set()


def test_the_table_of_presets_is_complete_and_starts_with_the_defaults():
    rows = [line for line in README.splitlines() if re.match(r"\| `(gatys|swag)-", line)]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(PRESETS)
    firsts = {}
    for name in names:
        firsts.setdefault(PRESETS[name].backbone, name)
    assert firsts == OF_BACKBONE


def test_local_links_lead_to_files():
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", README)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (ROOT / target).is_file()] == []


def test_ci_ends_with_the_test_command():
    """After the same set-up, CI's last line is the command that the README names."""
    _, second = (words for line in blocks("bash") for words in line.splitlines() if "-m venv" in words)
    assert second.endswith(" && .venv/bin/python -m pytest -n 2")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").endswith("\npython -m pytest -n 2\n")
