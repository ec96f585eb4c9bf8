"""The options that every verb shares: which model is opened, with which dictionaries, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from knowscope_tui.cli import words

if TYPE_CHECKING:
    from knowscope_tui.cli.progress import Teller
    from knowscope_tui.core.memory import MemoryPlan
    from knowscope_tui.session.protocol import SourceSpec
    from knowscope_tui.session.scope import Scope

T = TypeVar("T")
Option = Callable[..., Any]

GROUPS = {
    "Model": ("model", "device", "dtype", "chat", "offline"),
    "Dictionaries": ("sae", "width", "l0", "layers", "sae_dtype", "sae_memory"),
}
"""How a verb's help groups the shared options, below its own."""


class Shared(NamedTuple):
    """What a person chose by the options of every verb, as it was typed; None, () and False where nothing was said."""

    model: str | None = None
    sae: tuple[str, ...] = ()
    width: str | None = None
    l0: str | None = None
    layers: str | None = None
    device: str | None = None
    dtype: str | None = None
    sae_dtype: str | None = None
    sae_memory: str | None = None
    chat: bool | None = None
    offline: bool = False
    json: bool = False

    def source(self) -> SourceSpec:
        """What to open: the options, and where they are silent the configuration file."""
        from knowscope_tui.cli.source import source_of

        return source_of(self)

    def plan(self, tell: Teller) -> MemoryPlan:
        """What opening it would take; nothing is loaded but torch."""
        source = self.source()
        tell("Loading torch", None)
        from knowscope_tui.session.front import plan_for

        return plan_for(source, tell)

    def open(self, tell: Teller, on_plan: Callable[[MemoryPlan], None] = lambda plan: None) -> Scope:
        """Opens it, and says what goes where unless it is the demo. torch is loaded here."""
        source = self.source()
        tell("Loading torch", None)
        from knowscope_tui.cli.render_checks import plan_lines
        from knowscope_tui.session.scope import Scope

        def planned(plan: MemoryPlan) -> None:
            on_plan(plan)
            for line in plan_lines(plan) if source.model is not None else ():
                tell.note(line)

        scope = Scope.open(source, tell, on_plan=planned)
        for remark in scope.info.remarks:
            tell.note(remark)
        return scope


class Verb(click.Command):
    """A verb whose help sets the shared options apart from its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], **{title: [] for title in GROUPS}}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            title = next((title for title, names in GROUPS.items() if parameter.name in names), "Options")
            if record is not None:
                sections[title].append(record)
        for title, records in sections.items():
            if not records:
                continue
            with formatter.section(title):
                formatter.write_dl(records)


MODEL = click.option(
    "--model",
    metavar="MODEL",
    help="A folder or a hub name, @REVISION allowed; without it (or as `demo`) the embedded demo.",
)
DEVICE = click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="auto is bfloat16 on a GPU; on the CPU float32, or bfloat16 for weights stored so if the processor has AMX.",
)
CHAT = click.option("--chat/--no-chat", default=None, help="Put prompts through the model's chat template.")
OFFLINE = click.option("--offline", is_flag=True, help="Fetch nothing; so does HF_HUB_OFFLINE=1.")
SAE = click.option(
    "--sae",
    metavar="NAME",
    type=words.dictionaries,
    multiple=True,
    help="A release (see `saes list`), KIND=FOLDER, or `none`; may be repeated. Without it the model's usual set.",
)
WIDTH = click.option("--width", metavar="N", type=words.width, help="Features: 16k, 65k, 1m.  [default: 16k]")
L0 = click.option(
    "--l0", metavar="N", type=words.l0, help="Active features a token, the closest there is.  [default: canonical]"
)
LAYERS = click.option("--layers", metavar="N-N", type=words.layers, help="Only these layers, as in 10-20.")
SAE_DTYPE = click.option(
    "--sae-dtype", type=click.Choice(["bfloat16", "float32"]), help="What they are kept in.  [default: bfloat16]"
)
SAE_MEMORY = click.option(
    "--sae-memory",
    metavar="SIZE",
    type=words.memory,
    help="GPU memory for encoders, as in 8GiB.  [default: what is free]",
)
as_json = click.option("--json", "json", is_flag=True, help="Write the result as JSON.")

_BESIDE_MODEL = (SAE, WIDTH, L0, LAYERS, DEVICE, DTYPE, SAE_DTYPE, SAE_MEMORY, CHAT, OFFLINE, as_json)


def shared(command: Callable[..., T]) -> Callable[..., T]:
    """Gives a verb the shared options, and hands them to it as one `Shared`, its first argument."""

    @wraps(command)
    def run(model: str | None, **rest: Any) -> T:
        return command(_taken(model, rest), **rest)

    return with_options(run, (MODEL, *_BESIDE_MODEL))


def shared_beside_model(command: Callable[..., T]) -> Callable[..., T]:
    """The same for a verb that has an option called `model` itself, which it is given too."""

    @wraps(command)
    def run(model: str | None, **rest: Any) -> T:
        return command(_taken(model, rest), model=model, **rest)

    return with_options(run, _BESIDE_MODEL)


def _taken(model: str | None, rest: dict[str, Any]) -> Shared:
    return Shared(model, **{name: rest.pop(name) for name in Shared._fields if name != "model"})


def with_options(command: Callable[..., T], options: Sequence[Option]) -> Callable[..., T]:
    """`command` with `options`, which its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command
