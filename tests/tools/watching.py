"""What tests ask of a Prometheus."""

from __future__ import annotations

import httpx


class Prometheus:
    """A running Prometheus, asked over its API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **asked: str) -> httpx.Response:
        return self._http.get(path, params=asked)

    def is_ready(self) -> bool:
        try:
            return self.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def value(self, expression: str) -> float | None:
        """Return the sum over the series of an expression; None where there is none."""
        answer = self.get("/api/v1/query", query=expression).raise_for_status().json()
        series = answer["data"]["result"]
        return sum(float(one["value"][1]) for one in series) if series else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        alerts = self.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
