"""What can go wrong, said in one sentence each, with what to do next.

Every error a user can cause derives from `KnowscopeError`. `str(error)` is the whole sentence; `hint` is the part
that says what to do next, for faces that show it on a line of its own. No error carries a stack trace to a user.
"""

from __future__ import annotations


class KnowscopeError(Exception):
    """An expected failure: `what` happened, and the `hint` that says what to do next."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what} {hint}".strip())


class UsageError(KnowscopeError):
    """The request itself cannot be understood: a unit, a site or an option that does not parse."""


class FactFileError(KnowscopeError):
    """A fact file that cannot be read, or a line in it that is no fact."""


class PromptError(KnowscopeError):
    """A prompt or an answer that the model cannot take: empty, or beyond its context."""


class ModelNotLoaded(KnowscopeError):
    """A model that is not there, is not whole, or is of a family that no site table covers."""


class DictionaryError(KnowscopeError):
    """A dictionary that is missing, broken, or does not fit the model."""


class HubError(KnowscopeError):
    """A model or dictionaries that the hub does not hand out: unknown, gated, out of reach, or damaged on the way."""


class DoesNotFit(KnowscopeError):
    """A model that does not fit where it was to go."""


class DeviceError(KnowscopeError):
    """A device or dtype that this machine does not have."""


def device_full(error: BaseException) -> DeviceError | None:
    """What a person is told when `error` says that a device or this machine has no memory left; None for any other.

    torch's is known by its name, because who asks has no torch.
    """
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return DeviceError("This machine ran out of memory.", "Use --dtype bfloat16, or a smaller model.")
    if type(error).__name__ != "OutOfMemoryError" and "CUDA error: out of memory" not in str(error):
        return None
    return DeviceError("The device ran out of memory.", "Use less --sae-memory, --dtype bfloat16, or --device cpu.")


class EditError(KnowscopeError):
    """An edit that cannot be planned, applied or undone."""


class SaveError(KnowscopeError):
    """A checkpoint that could not be written or read; nothing half-written stays behind."""


class ConfigError(KnowscopeError):
    """A configuration or theme file that cannot be read."""


class Cancelled(KnowscopeError):
    """Long work stopped on request; the model is as it was before."""

    def __init__(self) -> None:
        super().__init__("Stopped; the model is unchanged.")
