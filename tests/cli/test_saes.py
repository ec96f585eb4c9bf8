"""`saes` and `cache`: published dictionaries, and the converted ones on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from knowscope_tui.core.dictionaries import Choice
from knowscope_tui.paths import cache_folder
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import LONG, StandInShelf, cached_dictionary

RES = "gemma-scope-2b-pt-res"


def whole(text: str) -> str:
    """`text` after a look at its width."""
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    return text


# --- releases -------------------------------------------------------------------------------------------------------


def test_list_hides_what_cannot_be_used_and_says_so(run: Run, shelf: StandInShelf) -> None:
    result = run("saes", "list")
    assert result.exit_code == 0, result.stderr
    text = whole(result.stdout)
    assert f"{RES} resid_post 0-25 16k-65k 7.9 GB 2/104" in " ".join(text.split())
    assert "transcoders" not in text
    assert LONG in text.replace("\n", "") or all(part in text for part in ("sae_bench_", "date-1109"))
    assert result.stderr == "1 that cannot be used here is left out: --all shows why.\n"


def test_list_all_says_why_some_cannot_be_used(run: Run, shelf: StandInShelf) -> None:
    result = run("saes", "list", "--all")
    assert result.stderr == ""
    text = whole(result.stdout)
    assert "Cannot be used here: its dictionaries are transcoders." in text
    assert "gemma-scope-2b-pt-transcoders" in text


def test_list_as_json(run: Run, shelf: StandInShelf) -> None:
    result = run("saes", "list", "--model", "google/gemma-2-2b", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = strict_json(result.stdout)
    assert found["hidden"] == 1
    assert [release["name"] for release in found["releases"]] == [RES, "gemma-scope-2b-pt-mlp", LONG]
    assert found["releases"][0] == {
        "name": RES,
        "model": "gemma-2-2b",
        "repo": f"google/{RES}",
        "sites": ["resid_post"],
        "layers": list(range(26)),
        "widths": [16384, 65536],
        "dictionaries": 104,
        "usual": 26,
        "usual_bytes": 7_856_848_896,
        "cached": 2,
        "converted": 2,
        "converted_bytes": 300_000_000,
        "why_not": None,
    }
    every = strict_json(run("saes", "list", "--all", "--json").stdout)
    assert (every["hidden"], every["releases"][-1]["why_not"]) == (0, "its dictionaries are transcoders")


def test_search_wants_every_word(run: Run, shelf: StandInShelf) -> None:
    text = run("saes", "search", "2b-pt", "mlp").stdout
    assert "gemma-scope-2b-pt-mlp" in text
    assert RES not in text


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["search", "gemma-scop-2b-pt-res"], "No release matches 'gemma-scop-2b-pt-res'.", RES),
        (["search", "gemma", "scope", "9b-pt", "attn"], "No release matches 'gemma scope 9b-pt attn'.", "9b-pt-att"),
        (["list", "--model", "gemma-2-3b"], "No release for 'gemma-2-3b' is known.", "gemma-2-2b"),
        (["search", "qqqq"], "No release matches 'qqqq'.", "`knowscope-tui saes list` shows all."),
        (["info", "nothing"], "There is no release called 'nothing'.", RES),
    ],
)
def test_nothing_found_is_a_sentence_with_the_closest(
    run: Run, shelf: StandInShelf, words: list[str], says: str, hint: str
) -> None:
    result = run("saes", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == says
    assert hint in result.stderr.splitlines()[1]
    assert strict_json(run("saes", *words, "--json").stderr)["error"]["kind"] == "DictionaryError"


def test_info_for_a_person(run: Run, shelf: StandInShelf) -> None:
    result = run("saes", "info", RES, "--offline")
    text = whole(result.stdout)
    assert not shelf.asked["ask_hub"]
    assert f"knowscope-tui --model google/gemma-2-2b --sae {RES}" in text
    assert f"knowscope-tui saes pull {RES}" in text
    assert "26 dictionaries, one a site: 16k features, L0 105; 7.9 GB to download" in " ".join(text.split())
    assert "16k            52  0-25    22-105  302 MB     0" in text
    assert "average_l0_22" not in text
    ids = whole(run("saes", "info", RES, "--ids").stdout)
    assert shelf.asked["ask_hub"]
    assert ids.count("layer_12/width_16k/average_l0_22") == 1
    assert "pull" not in run("saes", "info", "gemma-scope-2b-pt-transcoders").stdout


def test_info_as_json(run: Run, shelf: StandInShelf) -> None:
    found = strict_json(run("saes", "info", RES, "--json").stdout)
    assert found["name"] == RES
    assert [entry["usual"] for entry in found["entries"]] == [True] * 26 + [False] * 78
    assert found["entries"][0]["id"] == "layer_0/width_16k/average_l0_105"
    assert {"site", "width", "l0", "download_bytes", "downloaded", "cached_bytes"} <= set(found["entries"][0])


def test_pull(run: Run, shelf: StandInShelf) -> None:
    words = ["--width", "65k", "--l0", "50", "--layers", "10-20", "--sae-dtype", "float32", "--offline"]
    result = run("saes", "pull", RES, *words)
    assert result.exit_code == 0, result.stderr
    assert (shelf.asked["name"], shelf.asked["choice"]) == (RES, Choice(65536, 50.0, (10, 20)))
    assert (shelf.asked["ids"], shelf.asked["sae_dtype"], shelf.asked["offline"]) == ((), "float32", True)
    assert "Downloading it: 1.2 GB of 3 GB" in result.stderr
    assert f"✓ 26 dictionaries of {RES} here, 2 of them before: 3.9 GB." in result.stdout
    assert result.stdout.splitlines()[-1] == (
        f"Open: knowscope-tui --model google/gemma-2-2b --sae {RES} --width 65k --l0 50 --layers 10-20"
    )


def test_pull_by_id_as_json(run: Run, shelf: StandInShelf) -> None:
    result = run("saes", "pull", RES, "--id", "a", "--id", "b", "--id", "a", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (shelf.asked["ids"], shelf.asked["choice"]) == (("a", "b"), Choice())
    assert strict_json(result.stdout) == {"release": RES, "made": 24, "present": 2, "bytes": 3_900_000_000}


def test_a_pull_that_is_stopped_says_how_it_goes_on(run: Run, shelf: StandInShelf) -> None:
    shelf.interrupted = True
    result = run("saes", "pull", RES)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Stopped; the same command goes on where it was."
    result = run("saes", "pull", RES, "--json")
    assert strict_json(result.stderr)["error"]["exit_code"] == 130


# --- the cache ------------------------------------------------------------------------------------------------------


def test_cache_list(run: Run, shelf: StandInShelf) -> None:
    result = run("cache", "list")
    lines = whole(result.stdout).splitlines()
    assert [line.rstrip() for line in lines].count(RES) == 1
    assert any(line.startswith("layer_3/width_16k/average_l0_22   12.resid_post   16k bf16  150 MB") for line in lines)
    assert "/home/somebody/" in result.stdout
    assert result.stderr == f"3 dictionaries (450 MB) in {str(cache_folder())!r}.\n"
    found = strict_json(run("cache", "list", "--json").stdout)
    assert found["bytes"] == 450_000_000
    assert {"name", "file", "site", "width", "dtype", "bytes", "used", "problem"} == set(found["dictionaries"][0])


def test_a_cache_that_is_whole(run: Run, shelf: StandInShelf) -> None:
    result = run("cache", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "✓ 3 dictionaries (450 MB): every byte is as it was written.\n"
    found = strict_json(run("cache", "verify", "--json").stdout)
    assert (len(found["dictionaries"]), found["broken"]) == (3, 0)


def test_a_broken_dictionary_is_named_with_what_to_do(run: Run, shelf: StandInShelf) -> None:
    shelf.rows = (replace(shelf.rows[0], problem="its numbers are not those written."), *shelf.rows[1:])
    result = run("cache", "verify")
    assert result.exit_code == 1
    text = " ".join(whole(result.stdout).split())
    assert f"✗ {RES} layer_12/width_16k/average_l0_105: its numbers are not those written." in text
    assert "layer_3" not in text
    assert "1 of 3 dictionaries (450 MB) is broken." in result.stderr
    assert (
        f"`knowscope-tui cache prune --broken`. Then make them again: `knowscope-tui saes pull {RES}`" in result.stderr
    )
    result = run("cache", "verify", "--json")
    assert (result.exit_code, strict_json(result.stdout)["broken"]) == (1, 1)


def test_an_empty_cache(run: Run, shelf: StandInShelf) -> None:
    shelf.rows = ()
    assert run("cache", "list").stdout == ""
    result = run("cache", "verify")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "There is no converted dictionary" in result.stderr
    assert run("cache", "prune", "--all").stderr == "0 dictionaries (0 bytes) removed.\n"


def test_prune(run: Run, shelf: StandInShelf) -> None:
    result = run("cache", "prune", "--older-than", "90", "--broken")
    assert shelf.asked == {"older_than_days": 90.0, "broken": True, "everything": False, "dry_run": False}
    assert "average_l0_105" in result.stdout
    assert result.stderr == "1 dictionary (150 MB) removed.\n"
    result = run("cache", "prune", "--all", "--dry-run")
    assert shelf.asked == {"older_than_days": None, "broken": False, "everything": True, "dry_run": True}
    assert result.stderr == "1 dictionary (150 MB) would be removed.\n"
    found = strict_json(run("cache", "prune", "--all", "--dry-run", "--json").stdout)
    assert (len(found["removed"]), found["bytes"], found["dry_run"]) == (1, 150_000_000, True)


def test_cache_path(run: Run, tmp_path: Path) -> None:
    place = str(tmp_path / "cache" / "knowscope-tui")
    assert run("cache", "path").stdout == f"{place}\n"
    assert strict_json(run("cache", "path", "--json").stdout) == {"path": place}


def test_foreign_names_are_shown_literally(run: Run, shelf: StandInShelf) -> None:
    shelf.rows = (cached_dictionary("/tmp/[red]\x1b[31m/x", "it is cut short."),)
    text = run("cache", "list").stdout
    assert "[red]␛[31m" in text
    assert "\x1b" not in text
