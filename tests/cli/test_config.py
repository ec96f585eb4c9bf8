"""The configuration file and where it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from knowscope_tui import paths
from knowscope_tui.config import Settings, load_settings
from knowscope_tui.core.dictionaries import Choice, DictionarySource
from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import ConfigError
from knowscope_tui.session.protocol import SourceSpec
from tests.cli.conftest import Run
from tests.cli.stand_in import StandInScope


def test_no_file_sets_nothing_and_creates_nothing() -> None:
    assert load_settings() == Settings()
    assert not paths.config_folder().exists()


def test_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'model = "m"\nsae = ["r", "mlp_out=x"]\nwidth = 16384\nl0 = "canonical"\nlayers = "1-2"\nchat = true\n'
        'device = "cpu"\ndtype = "float32"\nsae_dtype = "float32"\nsae_memory = "8GiB"\noffline = true\n'
        'theme = "t"\n[keymap]\na = "b"\n'
    )
    assert load_settings(file) == Settings(
        model="m",
        sae=("r", "mlp_out=x"),
        width="16384",
        l0="canonical",
        layers="1-2",
        chat=True,
        device="cpu",
        dtype="float32",
        sae_dtype="float32",
        sae_memory="8GiB",
        offline=True,
        theme="t",
        keymap={"a": "b"},
    )


def test_the_file_that_the_module_shows_is_one(tmp_path: Path) -> None:
    from knowscope_tui import config
    from knowscope_tui.cli.source import configured

    assert config.__doc__
    lines = [line.removeprefix("    ") for line in config.__doc__.splitlines() if line.startswith("    ")]
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines))
    settings = load_settings(file)
    assert all(value for value in vars(settings).values())
    assert configured(settings).choice == Choice(65536, 100.0, (10, 20))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model = ", "it is no TOML"),
        ("model = 3", "'model' must be a text"),
        ("colour = 'red'", "there is no setting called 'colour'"),
        ("keymap = 3", "[keymap] must hold texts"),
        ("[sae]\nmlp_out = 'x'", "'sae' must be a list of texts"),
        ("sae = [3]", "'sae' must be a list of texts"),
        ("width = true", "'width' must be a text or a number"),
        ("layers = [1, 2]", "'layers' must be a text or a number"),
        ("chat = 'yes'", "'chat' must be true or false"),
        ("sae_dtype = 'float16'", "'sae_dtype' must be one of bfloat16, float32"),
        ("dtype = 16", "'dtype' must be one of auto, float32"),
    ],
)
def test_a_broken_file_is_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert says in caught.value.what
    assert str(file) in caught.value.what


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("width = 'wide'", "'wide' is no width."),
        ("l0 = 0", "'0' is no L0."),
        ("layers = '20-10'", "'20-10' is no range of layers."),
        ("sae_memory = 'lots'", "'lots' is no amount of memory."),
        ("sae = ['']", "'' names no dictionaries."),
        ("sae = ['resid=x']", "There is no site called 'resid'."),
        ("sae = ['none', 'x']", "No dictionaries and some were asked for at once."),
    ],
)
def test_words_that_mean_nothing_are_a_sentence_too(
    run: Run, stand_in: StandInScope, configure: Callable[[str], None], content: str, says: str
) -> None:
    configure(content)
    result = run("probe", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr
    assert str(paths.config_file()) in result.stderr
    assert says in " ".join(run("doctor").stdout.split())


MINE = 'model = "mine"\nsae = ["mlp_out=~/saes"]\nwidth = "65k"\nl0 = 50\nlayers = 3\nchat = true\ndevice = "cpu"\n'


def test_options_win_over_the_file(run: Run, stand_in: StandInScope, configure: Callable[[str], None]) -> None:
    configure(MINE + 'sae_memory = "1GB"\n')
    run("probe", "x")
    folder = DictionarySource(folder="~/saes", kind=SiteKind.MLP_OUT)
    assert stand_in.source == SourceSpec(
        "mine", (folder,), Choice(65536, 50.0, (3, 3)), device="cpu", sae_memory=10**9, chat=True
    )
    words = "--sae none --l0 canonical --layers 4-5 --device cuda:1 --dtype bfloat16 --sae-memory 0 --no-chat --offline"
    run("probe", "x", *words.split())
    assert stand_in.source == SourceSpec(
        "mine", (), Choice(65536, None, (4, 5)), "cuda:1", "bfloat16", sae_memory=0, chat=False, offline=True
    )


def test_dictionaries_and_chat_belong_to_the_model_of_the_file(
    run: Run, stand_in: StandInScope, configure: Callable[[str], None]
) -> None:
    configure(MINE + "offline = true\n")
    run("probe", "x", "--model", "other")
    assert stand_in.source == SourceSpec("other", device="cpu", offline=True)
    run("probe", "x", "--model", "demo")
    assert stand_in.source == SourceSpec(device="cpu", offline=True)
    configure('sae = ["none"]\nwidth = "65k"\n')
    run("probe", "x")
    assert stand_in.source == SourceSpec()


def test_dictionaries_as_they_are_typed(run: Run, stand_in: StandInScope) -> None:
    run("probe", "x", "--model", "m", "--sae", "a-release", "--sae", "mlp_out=x", "--sae", "a-release")
    folder = DictionarySource(folder="x", kind=SiteKind.MLP_OUT)
    assert stand_in.source == SourceSpec("m", (DictionarySource(release="a-release"), folder))
    run("probe", "x", "--sae", "none", "--sae", "none")
    assert stand_in.source == SourceSpec(dictionaries=())
    run("probe", "x", "--width", "1m", "--l0", "9.5", "--layers", "7", "--sae-dtype", "float32", "--sae-memory", "8GiB")
    assert stand_in.source == SourceSpec(choice=Choice(1048576, 9.5, (7, 7)), sae_dtype="float32", sae_memory=8 * 2**30)


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
