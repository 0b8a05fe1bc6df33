"""Tests that processes which cannot start together end with the reason, all of them the same."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from xcomp_jax.config import ConfigError
from xcomp_jax.rendezvous import Member, meet

SECONDS = 20.0


@pytest.fixture(name="address")
def address_fixture() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def outcomes(*members: Member, seconds: float = SECONDS) -> list[str]:
    """Lets all members meet at the same time; returns their errors, "" for none."""

    def outcome(member: Member) -> str:
        try:
            meet(member, seconds=seconds)
        except ConfigError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(outcome, members))


@pytest.mark.parametrize("count", [1, 4])
def test_meet_all_processes_return(address: str, count: int) -> None:
    assert outcomes(*(Member(address, count, i) for i in range(count))) == [""] * count
    with socket.create_server(("localhost", int(address.rpartition(":")[2]))):
        pass  # the port is free for JAX


def test_meet_missing_process_is_named_to_all(address: str) -> None:
    problems = outcomes(Member(address, 3, 0), Member(address, 3, 1), seconds=2)
    assert problems[0] == problems[1]
    assert problems[0].startswith(f"process 2 of 3 did not join at {address} within 2 s; start")


def test_meet_without_process_0_names_it(address: str) -> None:
    (problem,) = outcomes(Member(address, 2, 1), seconds=1)
    assert f"process 0 of 2 did not answer at {address} within 1 s" in problem


@pytest.mark.parametrize("repeated", [0, 1])
def test_meet_two_processes_with_one_id_are_refused(address: str, repeated: int) -> None:
    members = [Member(address, 3, i) for i in (0, 1, repeated)]
    problems = outcomes(*members)
    assert len(set(problems)) == 1, problems
    assert problems[0].startswith(f"two processes have --process-id {repeated}; give each")


def test_meet_other_number_of_processes_is_refused(address: str) -> None:
    problems = outcomes(Member(address, 2, 0), Member(address, 3, 2))
    assert (
        problems
        == [
            "process 2 has --num-processes 3, process 0 has 2; use the same number for "
            "every process"
        ]
        * 2
    )


def test_meet_id_out_of_range_raises(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--process-id 2 is not in \[0, 2\), with"):
        meet(Member(address, 2, 2), seconds=SECONDS)


def test_meet_taken_port_is_refused_at_once() -> None:
    with socket.create_server(("localhost", 0)) as other:
        address = f"localhost:{other.getsockname()[1]}"
        closer = threading.Timer(1, other.close)  # a program that never answers
        closer.start()
        (problem,) = outcomes(Member(address, 2, 0))
        closer.join()
    assert f"of --coordinator {address} cannot be used" in problem


def test_meet_ignores_strangers_and_ended_processes(address: str) -> None:
    def disturb() -> None:
        for text in (b"GET / HTTP/1.1\r\n\r\n", Member(address, 3, 1).hello):
            while True:
                try:
                    with socket.create_connection(("localhost", int(address.split(":")[1]))) as one:
                        one.sendall(text)
                        break
                except ConnectionRefusedError:
                    continue

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(outcomes, Member(address, 3, 0))
        pool.submit(disturb).result()
        time.sleep(1)  # process 0 notices the closed connections
        assert outcomes(Member(address, 3, 1), Member(address, 3, 2)) == ["", ""]
        assert leader.result() == [""]
