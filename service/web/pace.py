"""How often viewers are told what has changed: as often as a small share of the processor allows.

The stream may use every core. So what all viewers together cost is measured, and they are told less often
where it is more than the share: many viewers of a small machine see the mosaic grow in larger steps.
"""

from __future__ import annotations

PERIOD_S = 0.125
"""Time between two looks at the mosaic, where it costs little."""

LONGEST_PERIOD_S = 2.0
"""At most: a second later a viewer counts as behind."""

SHARE = 0.006
"""Of all cores, that viewers may cost once the period has settled; a scan's beginning costs more."""

_JUDGED_EVERY_S = 0.5
_LEAST_CHANGE, _MOST_CHANGE = 0.8, 1.6  # of the period, at once


class Pace:
    """Judges the period by what was spent.

    Args:
        cores: that the process may run on.

    Attributes:
        period_s: from one look at the mosaic to the next.
    """

    def __init__(self, cores: int) -> None:
        self.period_s = PERIOD_S
        self._budget = SHARE * cores
        self._judged_s: float | None = None
        self._busy_s = 0.0

    def judge(self, busy_s: float, now_s: float) -> None:
        """Take in how long viewers have kept processors busy since the service began.

        Args:
            busy_s: seconds of processor time.
            now_s: of any clock.
        """
        if self._judged_s is None:
            self._judged_s, self._busy_s = now_s, busy_s
        passed_s = now_s - self._judged_s
        if passed_s < _JUDGED_EVERY_S:
            return
        excess = (busy_s - self._busy_s) / passed_s / self._budget
        change = min(_MOST_CHANGE, max(_LEAST_CHANGE, excess))
        self.period_s = min(LONGEST_PERIOD_S, max(PERIOD_S, change * self.period_s))
        self._judged_s, self._busy_s = now_s, busy_s
