"""What a saved edit says of itself, and the save: record, model card, delta, folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowscope_tui.core.edit_json import proof_json, report_json
from knowscope_tui.core.fact_names import FactNames
from knowscope_tui.core.facts import distinct
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.saved import DeltaInfo, SavedCheckpoint, SaveOptions, SavePlan
from knowscope_tui.engine.deltas import files as delta_files
from knowscope_tui.engine.deltas.parts import part_of
from knowscope_tui.engine.loading import base_folder
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.identity import FINGERPRINT, base_fingerprint
from knowscope_tui.engine.saving.save import plan_save, save, versions
from knowscope_tui.engine.saving.stored import stored_name, tensors_in
from knowscope_tui.engine.upload import check_repo, push
from knowscope_tui.errors import Cancelled, EditError, KnowscopeError
from knowscope_tui.paths import typed_path
from knowscope_tui.session.editing import DictionaryUsed, Edits, Wishes
from knowscope_tui.session.model_card import card_in, licence_of, model_card


class Saving:
    """Saves what the journal of `edits` holds."""

    def __init__(self, lm: LanguageModel, edits: Edits, *, is_demo: bool) -> None:
        self._lm = lm
        self._edits = edits
        self._is_demo = is_demo

    def plan(self, folder: str | Path, options: SaveOptions) -> SavePlan:
        """What saving to `folder` would write and link, with what stands in the way."""
        return plan_save(self._lm.source, self._edits.total(), typed_path(str(folder)), options)

    def save(self, folder: str | Path, options: SaveOptions, on_progress: OnProgress = silent) -> SavedCheckpoint:
        """Saves the model as it stands, and uploads it where that was asked for.

        Raises `EditError`, `SaveError`, or `HubError` for an upload that cannot be; nothing half-written stays. An
        upload that fails or is stopped leaves a saved folder, and says so in `not_pushed`.
        """
        self._check()
        if options.push_to_hub:
            check_repo(options.push_to_hub)
        names = FactNames(self._edits.names.salt, include=options.include_facts)
        record = self._record(names, on_progress)
        saved = save(
            self._lm.source,
            self._edits.total(),
            record,
            model_card({**record, "versions": versions()}, card_in(base_folder(self._lm.source))),
            typed_path(str(folder)),
            options,
            on_progress,
        )
        self._edits.mark_saved()
        return saved if not options.push_to_hub else _pushed(saved, options.push_to_hub, on_progress)

    def save_delta(self, file: str | Path) -> DeltaInfo:
        """Writes the edits that are on as one delta file. Raises `EditError` or `SaveError`."""
        self._check()
        target = typed_path(str(file))
        source = base_folder(self._lm.source)
        stored = tensors_in(source)
        own = [(stored[stored_name(change.name, stored)], change) for change in self._edits.total()]
        parts = (part_of(tensor.read(), replace(change, name=tensor.name))[0] for tensor, change in own)
        about = {"base": self._base_name, FINGERPRINT: base_fingerprint(source), **self._about()}
        delta_files.write(target, [tensor.name for tensor, _change in own], parts, about)
        return delta_files.info(target, delta_files.read(target))

    def _check(self) -> None:
        if not len(self._edits):
            raise EditError("There is no edit to save.", "Apply one first.")

    @property
    def _base_name(self) -> str:
        """What the base is called by whoever opens the folder elsewhere; a folder's whole path."""
        base = self._lm.source
        if self._is_demo or not typed_path(base).is_dir():
            return self._lm.name
        return str(typed_path(base).absolute())

    def _about(self) -> dict[str, Any]:
        """What a delta file says of the edits, without the facts' text, and of the licence of the base."""
        applied = [one for _number, one in self._edits.applied]
        licence = licence_of(card_in(base_folder(self._lm.source)))
        return {
            **({"license": licence} if licence else {}),
            "method": ", ".join(dict.fromkeys(one.method for one in applied)),
            "facts": [name for one in applied for name in one.names],
        }

    def _record(self, names: FactNames, on_progress: OnProgress) -> dict[str, Any]:
        applied = self._edits.applied
        last = applied[-1][1]
        wishes = Wishes(neighbors=last.wishes.neighbors, leaks=last.wishes.leaks, on_progress=on_progress)
        on_progress("Measuring what is saved", None)
        record: dict[str, Any] = {
            "base_name": self._base_name,
            "delta": self._about(),
            "salt": names.salt,
            "include_facts": names.include,
            "settings": self._settings(names),
            "edits": [
                {**report_json(one.report, names), "dictionaries": _dictionaries(one.dictionaries)}
                if one.report
                else _unmeasured(one.method, one.names)
                for _number, one in applied
            ],
        }
        if all(one.facts for _number, one in applied):
            record["proof"] = proof_json(self._edits.prove_all(wishes), names)
        if names.include:
            record["facts"] = [fact.to_json() for fact in self._edits.facts]
        if self._lm.chat:
            record["chat"] = True
        return record

    def _settings(self, names: FactNames) -> dict[str, Any]:
        """What it takes to measure the same again."""
        last, told = self._edits.applied[-1][1], self._edits.told
        neighbors, leaks = last.wishes.neighbors, last.wishes.leaks
        named = distinct(fact for one in told for fact in one.retain or ())
        return {
            "seeds": list(dict.fromkeys(one.seed for one in told if one.retain is None)),
            "facts": names.fingerprint(self._edits.facts) if self._edits.facts else None,
            "neighbors": "default" if neighbors is None else names.fingerprint(neighbors),
            "retain": names.fingerprint(named) if any(one.retain is not None for one in told) else "default",
            "leaks": None if leaks is None else dict(vars(leaks)),
            "device": str(self._lm.device),
            "dtype": str(self._lm.dtype).removeprefix("torch."),
        }


def _pushed(saved: SavedCheckpoint, repo: str, on_progress: OnProgress) -> SavedCheckpoint:
    """`saved` with what came of its upload."""
    try:
        on_progress("Uploading", None)
        return replace(saved, pushed_to=push(Path(saved.folder), repo, on_progress=on_progress))
    except Cancelled:
        problem = "The upload was stopped."
    except KnowscopeError as error:
        problem = error.what
    again = shlex.join(["knowscope-tui", "push", saved.folder, repo])
    return replace(saved, not_pushed=f"{problem} The folder is saved; `{again}` uploads it.")


def _dictionaries(used: Sequence[DictionaryUsed]) -> list[dict[str, Any]]:
    return [{**vars(one), "site": str(one.site)} for one in used]


def _unmeasured(method: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """What is known of an edit that came from a delta file."""
    return {"method": method, "edited": list(names), "parameters": [], "units": []}
