"""Checks that all processes of a run are there before JAX connects them.

JAX ends a process from C++ if another one is missing or has the same id, without saying which. The
processes therefore meet at the coordinator's port first: each sends its id and the number of
processes to process 0, which waits for all and answers with "" or the reason why they cannot start.
The port is free again when JAX takes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import selectors
import socket
import sys
import time

from xcomp_jax.config import ConfigError

NOTICE_SECONDS = 10.0
"""Waiting time after which the missing processes are printed."""

RETRY_SECONDS = 0.5
CONNECT_SECONDS = 5.0
LATE_SECONDS = 3.0
ANSWER_SECONDS = 10.0
"""Time that process 0 may take, beyond the deadline, until its answer arrives."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One process of a run, and the address HOST:PORT where all meet."""

    coordinator: str
    num_processes: int
    process_id: int

    @property
    def host(self) -> str:
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.coordinator.rpartition(":")[2])

    @property
    def hello(self) -> bytes:
        """Line that introduces the process."""
        numbers = {"num_processes": self.num_processes, "process_id": self.process_id}
        return json.dumps(numbers).encode() + b"\n"


def meet(member: Member, *, seconds: float) -> None:
    """Returns once all processes of the run have called this, at most `seconds` later.

    Raises:
        ConfigError: a process is missing, two have the same id, the numbers of processes differ, or
            the port is taken. Every process that is there gets the same message.
    """
    if not 0 <= member.process_id < member.num_processes:
        raise ConfigError(
            f"--process-id {member.process_id} is not in [0, {member.num_processes}), with "
            f"--num-processes {member.num_processes}"
        )
    join = _lead if member.process_id == 0 else _follow
    if problem := join(member, seconds):
        raise ConfigError(problem)


def _lead(member: Member, seconds: float) -> str:
    """Collects the other processes, answers them, and returns the problem, if any."""
    dual_stack = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual_stack else socket.AF_INET
    try:
        server = socket.create_server(
            ("", member.port), family=family, dualstack_ipv6=dual_stack, backlog=1024
        )
    except OSError as error:
        # If another process 0 listens there, it learns that its id was given twice.
        problem = _exchange(member, time.monotonic() + RETRY_SECONDS)
        return problem or (
            f"port {member.port} of --coordinator {member.coordinator} cannot be used "
            f"({error.strerror}); choose a free port, the same for every process"
        )
    with server, contextlib.ExitStack() as connections:
        meeting = _Meeting(member, server, connections)
        problem = meeting.collect(seconds)
        meeting.answer(problem)
    return problem


class _Meeting:
    """Connections of process 0 to the others."""

    def __init__(
        self, member: Member, server: socket.socket, connections: contextlib.ExitStack
    ) -> None:
        self._member, self._server, self._connections = member, server, connections
        self._members: dict[int, socket.socket] = {}
        self._introductions: dict[socket.socket, bytes] = {}
        self._selector = connections.enter_context(contextlib.closing(selectors.DefaultSelector()))
        self._selector.register(server, selectors.EVENT_READ)

    def collect(self, seconds: float) -> str:
        """Returns "" once every process is there, else the problem."""
        began, noticed = time.monotonic(), False
        while self._missing():
            waited = time.monotonic() - began
            if waited > seconds:
                return self._absence(seconds)
            if waited > NOTICE_SECONDS and not noticed:
                noticed = True
                _notice(f"waiting for {_names(self._missing())}, up to {seconds:.0f} s")
            for key, _ in self._selector.select(timeout=RETRY_SECONDS):
                if key.fileobj is self._server:
                    self._accept()
                elif problem := self._receive(key.fileobj):  # type: ignore[arg-type]
                    self._admit_late_processes()
                    return problem
        return ""

    def _admit_late_processes(self) -> None:
        """Lets processes that start a little later receive the reason too."""
        deadline = time.monotonic() + LATE_SECONDS
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(timeout=RETRY_SECONDS):
                if key.fileobj is self._server:
                    self._accept()
                else:
                    self._selector.unregister(key.fileobj)

    def answer(self, problem: str) -> None:
        """Sends the outcome to every process that is there."""
        for connection in self._introductions:
            with contextlib.suppress(OSError):
                connection.setblocking(True)
                connection.settimeout(RETRY_SECONDS)
                connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")

    def _missing(self) -> list[int]:
        others = range(1, self._member.num_processes)
        return [number for number in others if number not in self._members]

    def _absence(self, seconds: float) -> str:
        count = self._member.num_processes
        return (
            f"{_names(self._missing())} of {count} did not join at {self._member.coordinator} "
            f"within {seconds:.0f} s; start every process, each with its own --process-id from 0 "
            f"to {count - 1}"
        )

    def _accept(self) -> None:
        connection = self._connections.enter_context(self._server.accept()[0])
        connection.setblocking(False)
        self._introductions[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> str:
        """Reads from one connection; returns the problem that its process causes."""
        try:
            data = connection.recv(1024)
        except OSError:
            data = b""
        self._introductions[connection] += data
        if not data or len(self._introductions[connection]) > 1024:
            # A process that ended may be started again, and strangers do not count.
            self._selector.unregister(connection)
            del self._introductions[connection]
            self._members = {i: s for i, s in self._members.items() if s is not connection}
            return ""
        if not self._introductions[connection].endswith(b"\n"):
            return ""
        try:
            hello = json.loads(self._introductions[connection])
            number, count = int(hello["process_id"]), int(hello["num_processes"])
        except (ValueError, KeyError, TypeError):
            return ""
        return self._join(number, count, connection)

    def _join(self, number: int, count: int, connection: socket.socket) -> str:
        expected = self._member.num_processes
        if count != expected:
            return (
                f"process {number} has --num-processes {count}, process 0 has {expected}; use the "
                "same number for every process"
            )
        if number == 0 or self._members.setdefault(number, connection) is not connection:
            return (
                f"two processes have --process-id {number}; give each its own, from 0 to "
                f"{expected - 1}"
            )
        return ""


def _follow(member: Member, seconds: float) -> str:
    """Introduces this process to process 0 and returns the problem, if any."""
    problem = _exchange(member, time.monotonic() + seconds)
    if problem is not None:
        return problem
    return (
        f"process 0 of {member.num_processes} did not answer at {member.coordinator} within "
        f"{seconds:.0f} s; start it with --process-id 0, and check that its host and port can be "
        "reached from here"
    )


def _exchange(member: Member, deadline: float) -> str | None:
    """Returns the answer of process 0; None if there is none until `deadline`."""
    began, noticed = time.monotonic(), False
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            remaining = deadline - time.monotonic() + ANSWER_SECONDS
            with _connected(member) as connection:
                connection.settimeout(remaining)
                connection.sendall(member.hello)
                with connection.makefile("rb") as answer:
                    return str(json.loads(answer.readline())["problem"])
        if time.monotonic() - began > NOTICE_SECONDS and not noticed:
            noticed = True
            _notice(f"waiting for process 0 at {member.coordinator}")
        time.sleep(RETRY_SECONDS)
    return None


def _connected(member: Member) -> socket.socket:
    return socket.create_connection((member.host, member.port), CONNECT_SECONDS)


def _notice(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _names(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"process {listed}" if len(numbers) == 1 else f"processes {listed}"
