"""Faults of a stream: frames that never arrive, arrive twice, in the wrong order, or late."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from service.errors import ConfigError

Message = TypeVar("Message")

LATE_BY_MESSAGES: Final = 64
_EXAMPLE: Final = "drop=0.01,dup=0.02,reorder=0.05,late=0.1"


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities, a message, each from 0 to 1.

    Attributes:
        drop: it is never sent.
        dup: it is sent twice.
        reorder: it changes places with the next.
        late: it is sent `LATE_BY_MESSAGES` messages later, at the latest with the last.
        seed: the same faults happen again with the same seed.
    """

    drop: float = 0.0
    dup: float = 0.0
    reorder: float = 0.0
    late: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no set of probabilities."""
        chances = (self.drop, self.dup, self.reorder, self.late)
        if not all(0 <= chance <= 1 for chance in chances) or sum(chances) > 1:
            raise ConfigError(f"faults are probabilities that add up to at most 1, for example {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Read `drop=0.01,dup=0.02,reorder=0.05,late=0.1`, in any order, any left out; `seed=7` too.

        Raises:
            ConfigError: a name is unknown or told twice, or a value is no probability.
        """
        told: dict[str, Any] = {}
        for item in filter(None, text.replace(" ", "").split(",")):
            name, _, value = item.partition("=")
            if name not in {field.name for field in fields(cls)} or name in told:
                raise ConfigError(f"faults: {item!r} is unknown or told twice; write them as {_EXAMPLE}")
            try:
                told[name] = int(value) if name == "seed" else float(value)
            except ValueError:
                raise ConfigError(f"faults: {item!r} is no number; write them as {_EXAMPLE}") from None
        return cls(**told)

    def applied(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages with the faults in them; at most `LATE_BY_MESSAGES` are held back."""
        dice = random.Random(self.seed)  # noqa: S311  (faults need repeating, not secrecy)
        held: list[tuple[int, Message]] = []
        for number, message in enumerate(messages):
            fault = self._throw(dice)
            if fault in _HELD_FOR:
                held.append((number + _HELD_FOR[fault], message))
            elif fault != "drop":
                yield message
            if fault == "dup":
                yield message
            yield from (old for due, old in held if due <= number)
            held = [(due, old) for due, old in held if due > number]
        yield from (old for _, old in held)

    def _throw(self, dice: random.Random) -> str:
        """Return what happens to the next message, "" for nothing."""
        names = ("drop", "dup", "reorder", "late")
        chances = [self.drop, self.dup, self.reorder, self.late]
        return dice.choices([*names, ""], [*chances, max(0.0, 1 - sum(chances))])[0]


_HELD_FOR: Final = {"reorder": 1, "late": LATE_BY_MESSAGES}
