"""Studies carried out on an open model: facts that it knows, a folder a study, and the pages at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowscope_tui.core.configuration import Json
from knowscope_tui.core.facts import Fact
from knowscope_tui.core.progress import OnProgress, silent
from knowscope_tui.core.studies import Findings, StudyName, StudyOptions, StudyReport, StudyResult
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.saving.save import versions
from knowscope_tui.errors import Cancelled, KnowscopeError, SaveError, UsageError
from knowscope_tui.session.known import draw_known
from knowscope_tui.session.loaded import subject_of
from knowscope_tui.session.study_pages.sections import Drawn
from knowscope_tui.session.study_pages.write import write_all, write_study
from knowscope_tui.studies.registry import study_named
from knowscope_tui.studies.run import Loop, keys_of, run_study, serial
from knowscope_tui.studies.run import unwatched as run_unwatched
from knowscope_tui.studies.run_folder import CACHE, CONFIG, RunFolder, check_place, configuration_of, open_run, read_run
from knowscope_tui.studies.study import Study, Subject

PACKAGES = ("knowscope-tui", "torch", "transformers", "numpy", "scipy", "scikit-learn", "sae-lens", "pyarrow")
"""Whose versions a run's configuration holds."""

OnGrowing = Callable[[StudyName, Findings], None]
"""Hears what a study's rows come to so far, on the thread that measures."""


def unwatched(_name: StudyName, _findings: Findings) -> None:
    """Findings that nobody watches while they grow."""


@dataclass(frozen=True)
class StudyWishes:
    """How studies are carried out. `command` gives the words that make one again, by its name and folder."""

    options: StudyOptions = StudyOptions()
    restart: bool = False
    """Throws away what earlier runs in the folder measured."""
    command: Callable[[str, Path], str] = lambda word, folder: ""
    on_progress: OnProgress = silent
    on_growing: OnGrowing = unwatched
    loop: Callable[[tuple[Fact, ...], Path], Loop] = lambda facts, cache: serial
    """Where items are measured (see `studies.run.Loop`), by the facts that are studied and a run's cache."""


def study(
    lm: LanguageModel,
    library: Library,
    names: Sequence[StudyName],
    facts: Sequence[Fact],
    out: Path,
    wishes: StudyWishes = StudyWishes(),
) -> StudyReport:
    """Carries out the studies `names` on those of `facts` that the model knows, and writes what they come to.

    One study has the folder `out`, several one each below it. Of several one that cannot be carried out is left out,
    and said. Raises `UsageError`, `FactFileError` where the model knows no fact, `SaveError`, `Cancelled`, and of one
    study alone whatever stands in its way.
    """
    _check(lm, facts, wishes.options)
    alone = len(names) == 1
    check_place(out, several=not alone)
    studies = [study_named(name) for name in names]
    known = draw_known(lm, facts, wishes.options.limit, wishes.options.seed, wishes.on_progress)
    results: list[StudyResult] = []
    left_out: list[tuple[StudyName, str]] = []
    for one in studies:
        folder = out if alone else out / one.name.value

        try:
            subject = subject_of(lm, library, known.facts, wishes.options, folder / CACHE)
            results.append(_carried_out(one, subject, folder, wishes, known.remark))
        except (Cancelled, SaveError):
            raise
        except KnowscopeError as error:
            if alone:
                raise
            left_out.append((one.name, str(error)))
    if not results:
        told = "; ".join(f"{name.value}: {why}" for name, why in left_out)
        raise UsageError(f"None of these studies can be carried out here. {told}")
    return _written(out, results, left_out, wishes.on_progress)


def show(out: Path, on_progress: OnProgress = silent) -> StudyReport:
    """Writes the pages of the finished runs in `out`, or in folders of theirs below it, again; nothing is measured.

    Of several one that is not finished is left out, and said. Raises `SaveError` where none is.
    """
    below = [name for name in StudyName if (out / name.value / CONFIG).exists()]
    if (out / CONFIG).exists() or not below:
        return _written(out, [_shown(read_run(out))], [], on_progress)
    results: list[StudyResult] = []
    left_out: list[tuple[StudyName, str]] = []
    for name in below:
        try:
            results.append(_shown(read_run(out / name.value)))
        except SaveError as error:
            left_out.append((name, str(error)))
    if not results:
        raise SaveError(f"No run in {str(out)!r} is finished.", "Give the command that began them again.")
    return _written(out, results, left_out, on_progress)


def _shown(run: RunFolder) -> StudyResult:
    one = study_named(StudyName(run.asked["study"]))
    return _result(one, run, one.findings(run.rows(list(run.items))))


def _check(lm: LanguageModel, facts: Sequence[Fact], options: StudyOptions) -> None:
    """Raises `UsageError` for what no study can be carried out with."""
    if not facts:
        raise UsageError("There are no facts to study: this model brings none along.", "Name a file with --facts.")
    if options.layers is not None and not set(options.layers) <= set(range(lm.n_layers)):
        raise UsageError(f"There is no layer {max(options.layers)}.", f"This model has layers 0 to {lm.n_layers - 1}.")
    if options.llm_url is not None and not options.llm_url.startswith(("http://", "https://")):
        raise UsageError(f"{options.llm_url!r} is no address.", "Name one as --llm-url http://localhost:8000/v1.")
    if (options.llm_url is None) != (options.llm_model is None):
        raise UsageError(
            "--llm-url and --llm-model belong together.", "Give both, or none for the embedded lexical simulator."
        )


def _carried_out(one: Study, subject: Subject, folder: Path, wishes: StudyWishes, remark: str) -> StudyResult:
    """One study in its folder."""
    asked = configuration_of(one.name, subject)
    made_with: Json = {
        "command": wishes.command(one.name.value, folder),
        "versions": versions(PACKAGES),
        "remarks": [remark] if remark else [],
    }
    keys_of(one, subject)
    with open_run(folder, asked, made_with, restart=wishes.restart) as run:
        findings = run_study(
            one,
            subject,
            run,
            wishes.on_progress,
            run_unwatched if wishes.on_growing is unwatched else lambda found: wishes.on_growing(one.name, found),
            wishes.loop(subject.facts, subject.cache),
        )
        return _result(one, run, findings)


def _result(one: Study, run: RunFolder, findings: Findings) -> StudyResult:
    return StudyResult(
        name=one.name,
        title=one.title,
        question=one.question,
        findings=findings,
        folder=str(run.folder),
        items=len(run.items),
        asked=run.asked,
        made_with=run.made_with,
        remarks=run.remarks,
    )


def _written(
    out: Path,
    results: Sequence[StudyResult],
    left_out: Sequence[tuple[StudyName, str]],
    on_progress: OnProgress,
) -> StudyReport:
    """Writes the pages: one a study, and one over all where they lie below `out`."""
    pictures: list[Drawn] = []
    page = out
    for number, result in enumerate(results):
        on_progress("Writing the pages", number / len(results))
        written = write_study(result)
        pictures.append(written.pictures)
        page = written.html
    if any(Path(result.folder) != out for result in results):
        page = write_all(out, results, pictures, left_out)
    return StudyReport(tuple(results), str(page), tuple(left_out))
