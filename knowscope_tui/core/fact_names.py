"""What a fact is called where its text must not stand: its id, or a salted hash.

The hash is scrypt (RFC 7914) of prompt and answer, so that guessing facts from their names costs work for each guess.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable

from knowscope_tui.core.facts import Fact

COST = 1 << 12
"""scrypt's N: some milliseconds a guess."""

SHOWN = 12
"""Hexadecimal digits of a hash that stand for a fact."""


class FactNames:
    """Names of facts under one `salt`, hexadecimal. With `include` their text may be shown beside the names."""

    def __init__(self, salt: str | None = None, *, include: bool = False) -> None:
        self.salt = salt or secrets.token_hex(16)
        self.include = include
        self._known: dict[tuple[str, str], str] = {}

    def name(self, fact: Fact) -> str:
        """The fact's id, or `sha-` and the beginning of its salted hash."""
        return fact.id or self._hashed(fact)

    def _hashed(self, fact: Fact) -> str:
        key = (fact.prompt, fact.answer)
        if key not in self._known:
            self._known[key] = f"sha-{self._scrypt(json.dumps(key, ensure_ascii=False))[:SHOWN]}"
        return self._known[key]

    def fingerprint(self, facts: Iterable[Fact]) -> str:
        """A salted hash of a set of facts with all their phrasings, whatever their order."""
        rows = sorted(json.dumps(fact.to_json(), ensure_ascii=False, sort_keys=True) for fact in facts)
        return self._scrypt("\n".join(rows))

    def _scrypt(self, text: str) -> str:
        return hashlib.scrypt(text.encode(), salt=bytes.fromhex(self.salt), n=COST, r=8, p=1, dklen=32).hex()
