"""Counts work and times for Prometheus."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from xcomp_jax.engine.compilation import COMPILATIONS

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Metrics of one server; every name begins with `xcomp_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"xcomp_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"xcomp_{name}", text, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"xcomp_{name}", text, buckets=buckets, registry=self.registry)

        self.requests = counter("requests", "HTTP requests.", ("method", "route", "status"))
        self.answers = counter("answers", "Answers completed.")
        self.cancelled = counter("cancelled", "Questions cancelled by their client.")
        self.refused = counter("refused", "Requests refused with 429.")
        self.frames_encoded = counter("frames_encoded", "Frames encoded.")
        self.frames_reused = counter("frames_reused", "Frames found in the token store.")
        self.prompt_tokens = counter("prompt_tokens", "Text tokens of prompts.")
        self.reused_tokens = counter("prefix_tokens_reused", "Text tokens found in memory.")
        self.generated_tokens = counter("generated_tokens", "Tokens generated.")
        self.evictions = gauge("memory_evictions", "States dropped from memory.")
        self.memory = gauge("memory_bytes", "Bytes of states in memory.")
        self.waiting = gauge("questions_waiting", "Questions that wait.")
        self.active = gauge("questions_active", "Questions in progress.")
        self.videos_waiting = gauge("videos_waiting", "Videos that wait to be watched.")
        self.programs = gauge("programs_compiled", "Programs compiled by this process.")
        self.first_token = histogram("first_token_seconds", "Time to the first token.", SECONDS)
        self.answer_seconds = histogram("answer_seconds", "Time of an answer.", SECONDS)
        self.rows = histogram("decode_rows", "Sequences per decode call.", (1, 2, 4, 8, 16))
        self.scored_together = histogram(
            "questions_scored_together", "Questions per scoring pass.", (1, 2, 4, 8, 16)
        )
        self._lock = threading.Lock()
        self.seconds_per_answer = 1.0
        self.seconds_per_frame: float | None = None

    def observe_answer(self, first_token: float, seconds: float) -> None:
        """Records one complete answer."""
        self.answers.inc()
        self.first_token.observe(first_token)
        self.answer_seconds.observe(seconds)
        with self._lock:
            self.seconds_per_answer += 0.1 * (seconds - self.seconds_per_answer)

    def observe_encoding(self, frames: int, seconds: float) -> None:
        """Updates the rate that estimates follow from."""
        if frames:
            rate = seconds / frames
            with self._lock:
                old = self.seconds_per_frame
                self.seconds_per_frame = rate if old is None else old + 0.3 * (rate - old)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        self.programs.set(COMPILATIONS.count)
        return generate_latest(self.registry)
