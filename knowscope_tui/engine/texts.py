"""Text about nothing in particular, on which a loaded model and its dictionaries are tested."""

SELF_TEST_TEXTS = (
    "The river rises in the hills to the north and runs for about two hundred miles before it reaches the sea. Along "
    "the way it passes three market towns, each of which grew up around a bridge. The oldest of these bridges was "
    "built of stone in the thirteenth century and still carries traffic today, although heavy trucks have to take the "
    "new road to the east.",
    "To make the dough, mix the flour with a little salt, add the butter in small pieces, and work it with your "
    "fingers until it looks like coarse crumbs. Pour in the cold water slowly; you may not need all of it. Let it rest "
    "in the refrigerator for at least half an hour, because otherwise it will shrink when you bake it.",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n\nprint(mean([3, 5, 10]))  # 6.0",
    "“I don't think that she knew,” he said, closing the door behind him. “If she had, she would have told us before "
    "the meeting on Thursday. Anyway, the board has decided, and the report will be published in March.” Nobody "
    "answered. Outside, it had begun to rain again.",
    "Water boils at a lower temperature on a mountain than at sea level, since the pressure of the air is lower there. "
    "In 1654 Otto von Guericke showed in Magdeburg how strong that pressure is: two teams of horses could not pull "
    "apart a pair of copper hemispheres from which the air had been pumped.",
)
