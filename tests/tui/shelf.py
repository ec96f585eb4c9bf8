"""A shelf of releases without a hub: what it lists is made up, and a pull counts up as fast as it is let."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from knowscope_tui.core.dictionaries import Choice, Entry, EntryState, Pulled, Release, ReleaseState, choose
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.errors import DictionaryError, HubError
from knowscope_tui.session import protocol
from knowscope_tui.session.runner import Post

LAYERS = 6
EACH = 151_000_000
RES, MLP = "gemma-scope-2b-pt-res-canonical", "gemma-scope-2b-pt-mlp-canonical"
ODD, TRANSCODERS, GPT2 = "odd-[b]markup[/b]-\x1b[2J-release", "gemma-scope-2b-pt-transcoders", "gpt2-small-res-jb"


def _release(
    name: str, kind: SiteKind | None, *, widths: tuple[int, ...] = (16_384, 65_536), model: str = "gemma-2-2b"
) -> Release:
    entries = tuple(
        Entry(
            name,
            f"layer_{layer}/width_{width}/{'canonical' if l0 == 100 else l0}",
            f"google/{name.removesuffix('-canonical')}",
            f"layer_{layer}/width_{width}/average_l0_{l0}",
            Site(layer, kind) if kind else None,
            width,
            l0,
            canonical=l0 == 100,
        )
        for layer in range(LAYERS)
        for width in widths
        for l0 in (22, 100)
    )
    return Release(name, entries[0].repo, model, entries, "" if kind else "its dictionaries are transcoders")


RELEASES = (
    _release(TRANSCODERS, None),
    _release(RES, SiteKind.RESID_POST),
    _release(MLP, SiteKind.MLP_OUT),
    _release(ODD, SiteKind.ATTN_Z, widths=(1_024,)),
    _release(GPT2, SiteKind.RESID_POST, widths=(24_576,), model="gpt2-small"),
    *(_release(f"sae_bench_gemma-2-2b_topk_width-2pow{n}_date-1109", SiteKind.RESID_POST) for n in range(10, 22)),
)


@dataclass
class ShelfStandIn:
    """The second `Handler` of the tests. `gate` holds pulls until it is opened."""

    requests: list[protocol.Request] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    gated: bool = False
    out_of_reach: bool = False
    without_registry: bool = False
    cached: set[tuple[str, str]] = field(default_factory=set)

    def handle(self, request: protocol.Request, post: Post, check: Callable[[], None]) -> None:
        self.requests.append(request)
        match request:
            case protocol.ListReleases() if self.without_registry:
                raise DictionaryError("sae-lens is [b]not[/b] installed.", "Install it: pip install sae-lens.")
            case protocol.ListReleases(words=words, model=model):
                found = [one for one in RELEASES if all(word in one.name for word in words.lower().split())]
                listed = [one for one in found if model is None or one.model == model.rpartition("/")[2]]
                post(protocol.ReleasesListed(request.revision, tuple(map(self._state, listed))))
            case protocol.ShowRelease(release=name):
                release = next(one for one in RELEASES if one.name == name)
                entries = tuple(self._entry(entry) for entry in release.entries)
                post(protocol.ReleaseShown(request.revision, self._state(release), entries))
            case protocol.PullDictionaries():
                self._pull(request, post, check)

    def _state(self, release: Release) -> ReleaseState:
        usual = () if release.why_not else choose(release, Choice())
        cached = sum((release.name, entry.id) in self.cached for entry in release.entries)
        return ReleaseState(release, len(usual), len(usual) * EACH or None, cached, cached, cached * EACH)

    def _entry(self, entry: Entry) -> EntryState:
        cached = (entry.release, entry.id) in self.cached
        return EntryState(entry, EACH, cached, EACH if cached else 0)

    def _pull(self, request: protocol.PullDictionaries, post: Post, check: Callable[[], None]) -> None:
        if self.out_of_reach:
            raise HubError("The hub [b]did not[/b] answer.", "Check the network and run it again.")
        entries = choose(next(one for one in RELEASES if one.name == request.release), request.choice)
        missing = [entry for entry in entries if (entry.release, entry.id) not in self.cached]
        for number, entry in enumerate(missing):
            post(protocol.Progress(request.revision, f"Downloading {entry.id}: 38 MB of 151 MB", number / len(missing)))
            while self.gated and number and not self.gate.wait(0.005):
                check()
            self.cached.add((entry.release, entry.id))
        pulled = Pulled(request.release, len(missing), len(entries) - len(missing), len(entries) * EACH)
        post(protocol.DictionariesPulled(request.revision, pulled))
