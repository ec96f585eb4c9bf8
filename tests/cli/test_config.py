"""The configuration file and where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowscope_tui import paths
from knowscope_tui.config import Settings, load_settings
from knowscope_tui.errors import ConfigError
from tests.cli.conftest import Run
from tests.cli.stand_in import StandInScope


def test_no_file_sets_nothing_and_creates_nothing() -> None:
    assert load_settings() == Settings()
    assert not paths.config_folder().exists()


def test_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'model = "m"\ndevice = "cpu"\ndtype = "float32"\ntheme = "t"\n[sae]\nmlp_out = "x"\n[keymap]\na = "b"\n'
    )
    assert load_settings(file) == Settings("m", "cpu", "float32", "t", {"mlp_out": "x"}, {"a": "b"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model = ", "it is no TOML"),
        ("model = 3", "'model' must be a text"),
        ("colour = 'red'", "there is no setting called 'colour'"),
        ("keymap = 3", "[keymap] must hold texts"),
        ("[sae]\nmlp_out = 3", "[sae] must hold texts"),
    ],
)
def test_a_broken_file_is_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert says in caught.value.what
    assert str(file) in caught.value.what


def test_a_folder_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot use the configuration file"):
        load_settings(tmp_path)


def test_a_broken_file_fails_a_verb_but_not_the_doctor(run: Run, stand_in: StandInScope) -> None:
    paths.config_folder().mkdir(parents=True)
    paths.config_file().write_text("model = 3")
    assert run("probe", "x").exit_code == 1
    result = run("doctor")
    assert result.exit_code == 0
    assert "must be a text" in " ".join(result.stdout.split())


def test_a_relative_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    assert paths.config_folder() == Path.home() / ".config" / "knowscope-tui"
    assert paths.themes_folder() == paths.config_folder() / "themes"
