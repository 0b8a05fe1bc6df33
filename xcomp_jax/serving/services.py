"""The parts of a server, connected."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import time
from pathlib import Path
from typing import IO

from xcomp_jax.config import ConfigError
from xcomp_jax.inference.session import Session
from xcomp_jax.serving.answering import Answering
from xcomp_jax.serving.device import Device
from xcomp_jax.serving.files import FileStore
from xcomp_jax.serving.library import Library
from xcomp_jax.serving.media import MediaStore
from xcomp_jax.serving.memory import StateMemory
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.resolve import Resolver
from xcomp_jax.serving.settings import ServingConfig
from xcomp_jax.serving.uploads import Uploads
from xcomp_jax.serving.watching import Watcher
from xcomp_jax.token_store import TokenStore


@dataclasses.dataclass
class Services:
    """Everything that requests use; `start` begins the work, `stop` ends it."""

    config: ServingConfig
    session: Session
    metrics: Metrics
    memory: StateMemory
    device: Device
    files: FileStore
    uploads: Uploads
    library: Library
    resolver: Resolver
    lock: IO[bytes]
    examples: list[dict[str, object]] = dataclasses.field(default_factory=list)
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))
    decoding: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(2))
    is_ready: bool = False
    is_draining: bool = False

    @classmethod
    def create(cls, config: ServingConfig, session: Session, store: TokenStore) -> Services:
        """Connects all parts.

        Raises:
            ConfigError: the model's video states depend on the question.
            ValueError: another server uses the same folder.
        """
        if not session.engine.caches_video:
            raise ConfigError(
                "compression.schedule='ranked' with ranking by attention keeps no state of a "
                "video, so that it cannot be served; use xcomp ask"
            )
        lock = _claimed(config.data)
        metrics = Metrics()
        memory = StateMemory(config.max_memory_bytes)
        limits = config.limits
        answering = Answering(session, memory, metrics, limits.max_waiting)
        watcher = Watcher(session, store, limits, metrics)
        device = Device(watcher, answering, limits.max_videos_waiting)
        files = FileStore(config.data / "files", limits)
        media = MediaStore(config.data / "media", limits)
        library = Library(config.data / "videos", session.selection, device.watch)
        return cls(
            config=config,
            session=session,
            metrics=metrics,
            memory=memory,
            device=device,
            files=files,
            uploads=Uploads(files),
            library=library,
            resolver=Resolver(config, files, media, library),
            lock=lock,
        )

    def start(self) -> None:
        """Starts the device thread and queues the videos of an earlier server."""
        self.device.start()
        self.library.load()
        self.is_ready = True

    def update_metrics(self) -> None:
        """Sets the metrics that are read from other parts."""
        metrics = self.metrics
        metrics.memory.set(self.memory.used_bytes)
        metrics.evictions.set(self.memory.evictions)
        metrics.waiting.set(self.device.answering.num_waiting)
        metrics.active.set(self.device.answering.num_active)
        metrics.videos_waiting.set(self.device.num_videos_waiting)

    def stop(self, *, at_once: bool = False) -> None:
        """Ends the device thread, after the questions in progress unless `at_once`."""
        self.is_draining = True
        self.device.stop(0.0 if at_once else self.config.drain_seconds)
        self.lock.close()


def _claimed(folder: Path) -> IO[bytes]:
    """Locks a server's folder; the system releases the lock when the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"--data {folder} is used by another server; stop it, or name another folder"
        ) from None
    return file
