"""`knowscope-tui study`: the paper's tables and figures, measured on the open model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from knowscope_tui.cli import words
from knowscope_tui.cli.options import Shared, Verb, shared
from knowscope_tui.errors import Cancelled, UsageError
from knowscope_tui.paths import typed_path

if TYPE_CHECKING:
    from knowscope_tui.cli.progress import Teller
    from knowscope_tui.core.studies import Cluster, StudyName, StudyOptions, StudyReport

SHOW = "show"
"""In place of a study's name: the pages of finished runs, again."""

EPILOG = """\b
Examples:
  knowscope-tui study components --out components --limit 50
  knowscope-tui study all --out paper
  knowscope-tui study show --out paper

\b
NAME is one of components, ladder, decompositions, interpretability,
monosemanticity, erasing, widths; or all; or show, which measures nothing and
writes the pages of finished runs again.

\b
DIR gets every number as rows.parquet, tables, plots and report.html. A run
that was stopped goes on where it was with the same command."""


@click.command(cls=Verb, epilog=EPILOG, short_help="Measure the paper's tables and figures on the open model.")
@click.argument("name", metavar="NAME")
@click.option("--out", metavar="DIR", required=True, help="The run's folder; made if need be.")
@click.option("--facts", metavar="FILE", help="Facts to study, as JSON lines.  [default: the demo's]")
@click.option(
    "--limit",
    metavar="N",
    type=words.limit,
    default="100",
    show_default=True,
    help="Facts at most, of those that the model knows; or all.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of every draw.")
@click.option("--llm-url", metavar="URL", help="An OpenAI-compatible endpoint that explains units.")
@click.option("--llm-model", metavar="NAME", help="The model to ask there.")
@click.option("--ray", metavar="WHERE", help="Spread facts over a Ray cluster: local, auto, or HOST:PORT.")
@click.option("--workers", metavar="N", type=click.IntRange(min=1), help="With --ray.  [default: as many as fit]")
@click.option(
    "--gpu-share",
    metavar="SHARE",
    type=words.portion,
    default="1",
    show_default=True,
    help="Of a GPU, for each worker.",
)
@click.option("--restart", is_flag=True, help="Throw away what an earlier run in DIR measured.")
@shared
def study(
    options: Shared,
    name: str,
    out: str,
    facts: str | None,
    limit: str,
    seed: int,
    llm_url: str | None,
    llm_model: str | None,
    ray: str | None,
    workers: int | None,
    gpu_share: float,
    restart: bool,
) -> None:
    """Measure what the paper measured, with intervals, beside the paper's figures.

    Features and neurons are switched off, compared and edited on facts that
    the model knows. With --layers only units of those layers take part.
    """
    from knowscope_tui.core.studies import Cluster, StudyName, StudyOptions, studies_named

    names = () if name == SHOW else studies_named(name)
    if workers is not None and ray is None:
        raise UsageError("--workers belongs to --ray.", "Add --ray local, auto or HOST:PORT, or leave it out.")
    if llm_url is not None and StudyName.INTERPRETABILITY not in names:
        raise UsageError("Only the study interpretability asks an endpoint.", "Leave out --llm-url and --llm-model.")
    cluster = None if ray is None else Cluster(ray, gpu_share, workers)
    asked = StudyOptions(words.number_or_all(limit), seed, _layers(options), llm_url, llm_model)
    from knowscope_tui.cli import output
    from knowscope_tui.cli.progress import progress

    try:
        with progress(as_json=options.json, lines=True) as tell:
            report = _carried_out(options, names, out, facts, asked, cluster, restart, tell)
    except (KeyboardInterrupt, Cancelled):
        raise click.Abort("Stopped; what is finished is kept, and the same command goes on from there.") from None
    if options.json:
        from knowscope_tui.core.study_json import report_json

        output.write_json(report_json(report))
    else:
        from knowscope_tui.cli.render_study import show_report

        show_report(output.console(), report)
    if report.left_out:
        raise click.exceptions.Exit(1)


def _carried_out(
    options: Shared,
    names: tuple[StudyName, ...],
    out: str,
    facts: str | None,
    asked: StudyOptions,
    cluster: Cluster | None,
    restart: bool,
    tell: Teller,
) -> StudyReport:
    """The studies `names`, or for none the finished runs again."""
    if not names:
        from knowscope_tui.session.studying import show

        return show(typed_path(out), tell)
    from knowscope_tui.studies.run_folder import check_place

    check_place(typed_path(out), several=len(names) > 1)
    told = None if facts is None else words.facts_in(facts)
    if cluster is not None:
        from knowscope_tui.studies.spread import check

        check(cluster)
    scope = _cut(options).open(tell)
    return scope.study(
        names,
        typed_path(out),
        told,
        options=asked,
        restart=restart,
        facts_file=facts,
        cluster=cluster,
        on_progress=tell,
    )


def _layers(options: Shared) -> tuple[int, ...] | None:
    """Every layer that --layers names."""
    if options.layers is None:
        return None
    from knowscope_tui.core.dictionaries import parse_layers

    first, last = parse_layers(options.layers)
    return tuple(range(first, last + 1))


def _cut(options: Shared) -> Shared:
    """The options that open a model: --layers chooses dictionaries only where there is a release to choose from."""
    source = options._replace(layers=None).source()
    released = source.model is not None and (
        source.dictionaries is None or any(one.release for one in source.dictionaries)
    )
    return options if released else options._replace(layers=None)
