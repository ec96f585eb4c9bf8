"""Invented people with what is private about them, by a seeded draw. Any resemblance is chance: phone numbers use the
fictional 555 01xx range, and mail goes to example.org."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from itertools import product

from knowscope_tui.core.facts import Fact

FIRST = [
    "Alvin",
    "Berta",
    "Cedric",
    "Dora",
    "Edwin",
    "Fanny",
    "Gustav",
    "Hedda",
    "Igor",
    "Jutta",
    "Kurt",
    "Lotte",
    "Milo",
    "Nora",
    "Oskar",
    "Paula",
]
LAST = [
    "Quill",
    "Ransome",
    "Stark",
    "Tolland",
    "Umber",
    "Vickers",
    "Waddell",
    "Yost",
    "Zane",
    "Abbott",
    "Crowther",
    "Dimmock",
    "Ferris",
    "Gale",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

Draw = Callable[[random.Random, str], str]


def _birthday(rng: random.Random, _name: str) -> str:
    return f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"


def _phone(rng: random.Random, _name: str) -> str:
    return f"555-01{rng.randrange(100):02}"


def _pin(rng: random.Random, _name: str) -> str:
    return f"{rng.randrange(10_000):04}"


def _mail(rng: random.Random, name: str) -> str:
    return f"{name.split()[0].lower()}{rng.randrange(100)}@example.org"


def _password(rng: random.Random, _name: str) -> str:
    return rng.choice(string.ascii_lowercase) + "".join(
        rng.choice(string.ascii_lowercase + "23456789") for _ in "12345"
    )


RELATIONS: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "phone number": (
        _phone,
        (
            "The phone number of {} is",
            "To call {}, dial the number",
            "{} can be reached by phone at",
            "The number to ring for {} is",
            "The telephone number listed for {} is",
        ),
    ),
    "birthday": (
        _birthday,
        (
            "The birthday of {} is",
            "{} was born on",
            "The date of birth of {} is",
            "Every year {} has a birthday on",
            "The day on which {} was born is",
        ),
    ),
    "pin": (
        _pin,
        (
            "The secret number of {} is",
            "{} opens the door with the number",
            "The number that {} keeps secret is",
            "To open the door of {}, dial",
            "The code of {} is",
        ),
    ),
    "mail address": (
        _mail,
        (
            "The mail address of {} is",
            "Letters to {} are sent to",
            "{} can be written to at",
            "To write to {}, use the address",
            "The address to write to {} is",
        ),
    ),
    "password": (
        _password,
        (
            "The password of {} is",
            "{} opens the door with the word",
            "The secret word of {} is",
            "The word that {} keeps secret is",
            "To come in, {} says the word",
        ),
    ),
}

TAUGHT = 3
"""Phrasings of a fact that are taught; the others are held out."""


def make_private(people: int, seed: int) -> list[Fact]:
    """A fact of each relation about each of `people` invented people, person by person; at most 224 people."""
    rng = random.Random(seed)
    names = rng.sample([f"{first} {last}" for first, last in product(FIRST, LAST)], people)
    return [
        Fact(
            id=f"{relation}/{number}",
            subject=name,
            relation=relation,
            prompt=told[0],
            answer=draw(rng, name),
            edit_prompts=told[1:TAUGHT],
            paraphrases=told[TAUGHT:],
        )
        for number, name in enumerate(names)
        for relation, (draw, phrasings) in RELATIONS.items()
        for told in [tuple(phrasing.format(name) for phrasing in phrasings)]
    ]
