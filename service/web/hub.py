"""What all viewers share: the service, and a feed for each object that somebody looks at."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable
from functools import partial
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from service.mosaic import Mosaic
from service.web.block_message import CHANNELS
from service.web.feed import Feed
from service.web.lamps import lamps
from service.web.levels import COARSEST, LevelKey, Window
from service.web.pace import Pace
from service.web.view import LiveView

Told = TypeVar("Told")

_SHARED = 0.8  # of the period: less than all of it, so that no viewer just misses what it comes for
_FRESH_S = 0.1
_REFINED_EVERY_S = 1.0
_REFINED_SHARE = 0.1  # of the time, at most, goes into taking the refined object out of the refinement


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a viewer wants to see.

    Attributes:
        scan: name, None for the current (or else the latest) one.
        refined: the object that idle time has refined, once there is one; else the network's mosaic.
        windows: blocks of the levels, the most urgent first; None for all blocks of level 0.
        path: also where the last frames were taken.
    """

    scan: str | None = None
    refined: bool = False
    windows: tuple[Window, ...] | None = None
    path: bool = False


class _RefinedFeed(Feed):
    """The refined object of a scan.

    Attributes:
        origin: the mosaic that the refinement began with.
        sweeps: how many the object had seen when it was taken.
        due_s: when it may be taken again.
    """

    def __init__(self, refined: Mosaic, generation: int, origin: Mosaic) -> None:
        super().__init__(refined, generation)
        self.origin = origin
        self.sweeps = 0
        self.due_s = 0.0


class Hub:
    """The feeds of a service.

    Args:
        view: the service.

    Attributes:
        viewers: how many there are now.
    """

    def __init__(self, view: LiveView) -> None:
        self.view = view
        self.viewers = 0
        self._pace = Pace(len(os.sched_getaffinity(0)))
        self._prepared_s = 0.0  # of processors, in other threads
        # Viewers hold their feed: a mosaic that nobody follows is not kept alive from here.
        self._feeds: WeakValueDictionary[str, Feed] = WeakValueDictionary()
        self._refined: WeakValueDictionary[str, _RefinedFeed] = WeakValueDictionary()
        self._generations = count(1)
        self._taking = asyncio.Lock()
        self._told: dict[Hashable, Any] = {}  # by the service, a moment ago
        self._told_at_s = 0.0

    @property
    def period_s(self) -> float:
        """How often a viewer is told of changes."""
        return self._pace.period_s

    @property
    def pause_s(self) -> float:
        """How long viewers share what was last seen of the mosaic; one alone sees it as it is."""
        return 0.0 if self.viewers < 2 else _SHARED * self.period_s

    def count_cost(self) -> None:
        """Take in what viewers have cost; in the thread that serves them."""
        self._pace.judge(time.thread_time() + self._prepared_s, _now_s())

    async def messages(self, feed: Feed, keys: list[LevelKey]) -> list[bytes]:
        """Return the binary messages of blocks, prepared in another thread if need be."""
        prepared = [message for message in map(feed.prepared, keys) if message is not None]
        if len(prepared) == len(keys):
            return prepared
        messages, took_s = await asyncio.to_thread(_timed, lambda: [feed.message(key) for key in keys])
        self._prepared_s += took_s
        return messages

    async def state(self, wish: Wish) -> tuple[Feed | None, bytes]:
        """Return the feed to show and the `state` message, JSON."""
        status, scans = self._ask("status", self.view.status), self._ask("scans", self.view.scans)
        name = wish.scan or status.get("current_scan") or (scans[0]["scan"] if scans else None)
        report = self._ask(f"scan {name}", partial(self.view.scan, name)) if name else None
        refined = await self._refined_feed(name, report) if name and report and wish.refined else None
        feed = refined or (self._feed(name) if name else None)
        encode = partial(self._encoded, name, feed, report, wish.path)
        return feed, self._ask((name, feed and feed.generation, wish.path), encode)

    def _encoded(
        self, name: str | None, feed: Feed | None, report: dict[str, Any] | None, path: bool
    ) -> bytes:
        status, scans = self._ask("status", self.view.status), self._ask("scans", self.view.scans)
        message = {
            "type": "state",
            "channels": CHANNELS,
            "status": status,
            "scans": scans,
            "name": name,
            "scan": report,
            "refined": isinstance(feed, _RefinedFeed),
            "mosaic": _describe(feed) if feed else None,
            "lamps": lamps(report, status["queues"], self.view.recent(name) if name else None),
            "path_px": self._path_px(name, feed) if name and feed and path else None,
        }
        return msgspec.json.encode(message)

    def forget(self) -> None:
        """Ask the service anew: a viewer wants to see something else, as it is now."""
        self._told.clear()

    def _ask(self, what: Hashable, ask: Callable[[], Told]) -> Told:
        """Return what is told; all viewers together ask the service no more than ten times a second."""
        now_s = _now_s()
        if now_s - self._told_at_s > _FRESH_S:
            self._told.clear()
            self._told_at_s = now_s
        if what not in self._told:
            self._told[what] = ask()
        told: Told = self._told[what]
        return told

    def _feed(self, scan: str) -> Feed | None:
        mosaic = self.view.mosaic(scan)
        if mosaic is None:
            return None
        feed = self._feeds.get(scan)
        if feed is None or feed.mosaic is not mosaic:
            feed = self._feeds[scan] = Feed(mosaic, next(self._generations))
        return feed

    async def _refined_feed(self, scan: str, report: dict[str, Any]) -> Feed | None:
        sweeps = (report.get("refinement") or {}).get("sweeps", 0)
        origin = self.view.mosaic(scan)
        if not sweeps or origin is None:
            return None
        async with self._taking:
            feed = self._refined.get(scan)
            if feed is not None and feed.origin is not origin:
                feed = None
            if feed is None or (feed.sweeps != sweeps and _now_s() >= feed.due_s):
                feed = await self._take_refined(scan, origin, feed, sweeps)
            return feed

    async def _take_refined(
        self, scan: str, origin: Mosaic, feed: _RefinedFeed | None, sweeps: int
    ) -> _RefinedFeed | None:
        began_s = _now_s()
        refined = await asyncio.to_thread(self.view.refined, scan)
        if refined is None:
            self._refined.pop(scan, None)
            return None
        if feed is None:
            feed = _RefinedFeed(refined, next(self._generations), origin)
        else:
            feed.replace(refined)
        self._refined[scan] = feed
        feed.sweeps = sweeps
        feed.due_s = _now_s() + max(_REFINED_EVERY_S, (_now_s() - began_s) / _REFINED_SHARE)
        return feed

    def _path_px(self, scan: str, feed: Feed) -> list[list[float]] | None:
        recent = self.view.recent(scan)
        if recent is None:
            return None
        path_px: list[list[float]] = np.round(recent.path_m() / feed.mosaic.object_pixel_m, 1).tolist()
        return path_px


def _describe(feed: Feed) -> dict[str, Any]:
    mosaic = feed.mosaic
    return {
        "generation": feed.generation,
        "version": mosaic.version,
        "block_px": mosaic.block_px,
        "object_pixel_m": mosaic.object_pixel_m,
        "bounds": mosaic.bounds(),
        "coarsest": COARSEST,
    }


def _timed(do: Callable[[], Told]) -> tuple[Told, float]:
    """Return what is done, and the seconds of processor time of this thread that it took."""
    began_s = time.thread_time()
    return do(), time.thread_time() - began_s


def _now_s() -> float:
    return asyncio.get_running_loop().time()
