"""Drives a real server with the clients that people use."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.serving.server import Server, chat, events

QUESTIONS = [f"What color is the shape number {number}?" for number in range(2)]


def jpeg(value: int) -> bytes:
    """Returns a grey image as JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def frame_urls(count: int) -> str:
    """Returns a data URL of several frames."""
    parts = [base64.b64encode(jpeg(30 * number)).decode() for number in range(count)]
    return "data:video/jpeg;base64," + ",".join(parts)


@pytest.fixture(scope="module", name="client")
def client_fixture(server: Server) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_client_uploads_and_chats(
    client: openai.OpenAI, server: Server, videos: list[Path]
) -> None:
    model = client.models.list().data[0].id
    content = videos[0].read_bytes()
    file = client.files.create(file=("a.mp4", content), purpose="user_data")
    assert client.files.retrieve(file.id).bytes == len(content)
    assert client.files.content(file.id).read() == content
    upload = client.uploads.create(
        filename="b.mp4", bytes=len(content), mime_type="video/mp4", purpose="user_data"
    )
    half = len(content) // 2
    parts = [
        client.uploads.parts.create(upload.id, data=data).id
        for data in (content[:half], content[half:])
    ]
    joined = client.uploads.complete(upload.id, part_ids=parts).file
    assert joined is not None
    assert client.files.content(joined.id).read() == content
    part: Any = {"type": "video_url", "video_url": {"url": f"xcomp://{file.id}"}}
    body: Any = chat("What color is it?", part)
    reply = client.chat.completions.create(
        model=model, seed=3, extra_body={"num_frames": 24}, **body
    )
    facts = reply.model_extra["xcomp"]
    assert facts["frames_seen"] == 24
    assert reply.usage.completion_tokens <= 8
    chunks = list(
        client.chat.completions.create(
            model=model,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"num_frames": 24},
            **body,
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == reply.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == reply.usage.completion_tokens
    assert chunks[-2].model_extra["xcomp"]["video"] == facts["video"]
    assert file.id in {found.id for found in client.files.list().data}
    assert client.files.delete(joined.id).deleted
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        client.files.retrieve(joined.id)


def test_video_object_scores_and_media(server: Server, video_ids: list[str]) -> None:
    video = server.http.get(f"/v1/videos/{video_ids[0]}").json()
    assert (video["width"], video["height"], video["duration"]) == (64, 48, 4.0)
    assert video["frames"]["planned"] == 24
    assert video["id"] in {v["id"] for v in server.http.get("/v1/videos").json()["data"]}
    scores = server.http.get(f"/v1/videos/{video_ids[0]}/scores", params={"q": "what?"}).json()
    assert [frame["index"] for frame in scores["frames"]] == list(range(24))
    best = sorted(range(24), key=lambda i: -scores["frames"][i]["score"])[:12]
    assert scores["selected"] == sorted(best)
    frame = server.http.get(video["frame_url"].replace("{index}", "3"), params={"width": 32})
    assert Image.open(io.BytesIO(frame.content)).width == 32
    part = server.http.get(video["content_url"], headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-type"] == "video/mp4"
    assert "default-src 'self'" in part.headers["content-security-policy"]


def test_concurrent_questions_equal_single_ones(server: Server, video_ids: list[str]) -> None:
    pairs = [(video, question) for question in QUESTIONS for video in video_ids]

    def answer(pair: tuple[str, str]) -> str:
        reply = server.ask(f"xcomp://{pair[0]}", pair[1], max_tokens=40, temperature=0.5, seed=7)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["message"]["content"])

    alone = [answer(pair) for pair in pairs]
    before = server.metrics()
    with concurrent.futures.ThreadPoolExecutor(len(pairs)) as pool:
        together = list(pool.map(answer, pairs))
    assert together == alone
    assert len(set(alone)) > 1
    after = server.metrics()

    def mean(name: str) -> float:
        total, count = (after[f"{name}_{s}"] - before[f"{name}_{s}"] for s in ("sum", "count"))
        return total / count

    assert mean("xcomp_decode_rows") > 1.2


def test_replies_in_two_parts_do_not_wait_for_each_other(server: Server) -> None:
    """With Nagle's algorithm every reply takes the 40 ms after which a client acknowledges."""
    waited = []
    for _ in range(20):
        begin = time.perf_counter()
        server.http.get("/healthz")
        waited.append(time.perf_counter() - begin)
    assert np.median(waited) < 0.03


def test_conversation_reuses_text_by_content(server: Server, video_ids: list[str]) -> None:
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video_ids[0]}"}}
    body = chat("Which way does the circle move?", part)
    first = server.post("/v1/chat/completions", body).json()
    messages = [
        *body["messages"],
        {"role": "assistant", "content": first["choices"][0]["message"]["content"]},
        {"role": "user", "content": "And then?"},
    ]
    second = server.post("/v1/chat/completions", {**body, "messages": messages}).json()
    reused = second["xcomp"]["prefix_tokens_reused"]
    prompt = (
        first["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens_details"]["video_tokens"]
    )
    assert reused > 20, (reused, prompt)
    assert second["xcomp"]["frames_encoded"] == 0
    # Control: the same words about another video share nothing.
    part["video_url"]["url"] = f"xcomp://{video_ids[1]}"
    other = server.post("/v1/chat/completions", {**body, "messages": messages}).json()
    assert other["xcomp"]["prefix_tokens_reused"] < reused


def test_frame_rules_are_stated_in_reply(server: Server, videos: list[Path]) -> None:
    file = f"xcomp://{server.upload(videos[1])}"

    def facts(**body: Any) -> Any:
        reply = server.ask(file, "What?", max_tokens=1, **body)
        assert reply.status_code == 200, reply.text
        return reply.json()["xcomp"]

    # Five seconds: 2 per second are 8 in whole clips, and so are at most 8 of 4 per second.
    for body, seen in (
        ({"fps": 2.0}, 8),
        ({"fps": 4.0, "max_frames": 8}, 8),
        ({"num_frames": 7}, 8),
        ({"media_io_kwargs": {"video": {"num_frames": 8}}}, 8),
        ({"mm_processor_kwargs": {"fps": 2.0, "do_sample_frames": True}}, 8),
    ):
        reply = facts(**body)
        assert (reply["frames_seen"], len(reply["frames"])) == (seen, seen), (body, reply)
        assert reply["sampling"]
    assert "do_sample_frames" in reply["ignored"]
    assert "requested: 7" in facts(num_frames=7)["sampling"]


def test_frame_lists_are_seen_whole(server: Server) -> None:
    for url, seen in ((frame_urls(6), 8), ([frame_urls(1)] * 5, 8)):
        part = {"type": "video_url", "video_url": {"url": url}, "uuid": "mine"}
        reply = server.post("/v1/chat/completions", chat("What?", part)).json()
        assert reply["xcomp"]["frames_seen"] == seen, reply
    image = {"type": "image_url", "image_url": {"url": frame_urls(1).replace("video", "image")}}
    reply = server.post("/v1/chat/completions", chat("What?", *[image] * 5)).json()
    assert reply["xcomp"]["sampling"].startswith("all 5 frames of the list, the last repeated")
    array = {"url": [frame_urls(1)] * 8, "fps": 2}
    reply = server.post("/v1/chat/completions", chat("What?", {**part, "video_url": array})).json()
    assert [frame["time"] for frame in reply["xcomp"]["frames"]][:3] == [0, 0.5, 1]
    # The client's own id stands for the last video that came with it.
    known = {"type": "video_url", "uuid": "mine"}
    again = server.post("/v1/chat/completions", chat("What?", known)).json()
    assert (again["xcomp"]["frames_seen"], again["xcomp"]["frames_encoded"]) == (8, 0)


def test_other_number_of_frames_compiles_nothing(server: Server, videos: list[Path]) -> None:
    file = f"xcomp://{server.upload(videos[0])}"
    assert server.ask(file, "What color?", num_frames=24).status_code == 200
    before = server.metrics()["xcomp_programs_compiled"]
    assert (
        server.ask(file, "Which shape is it?", num_frames=20).json()["xcomp"]["frames_seen"] == 20
    )
    assert server.metrics()["xcomp_programs_compiled"] == before


def test_costly_request_is_refused_before_decoding(server: Server, videos: list[Path]) -> None:
    file = f"xcomp://{server.upload(videos[0])}"
    before = server.metrics()
    begin = time.perf_counter()
    reply = server.ask(file, "What?", num_frames=5000)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_many_frames")
    assert "4,096" in reply.json()["error"]["message"]
    assert server.metrics()["xcomp_frames_encoded_total"] == before["xcomp_frames_encoded_total"]
    assert time.perf_counter() - begin < 30


def test_sampling_without_seed_differs(server: Server, video_ids: list[str]) -> None:
    def answers(**body: Any) -> set[str]:
        body = {"temperature": 5, "max_tokens": 8, **body}
        replies = [server.ask(f"xcomp://{video_ids[0]}", "What?", **body) for _ in range(3)]
        return {reply.json()["choices"][0]["message"]["content"] for reply in replies}

    assert len(answers(seed=3)) == 1
    assert len(answers()) == 3


INVALID_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "audio": ({"type": "input_audio"}, "messages.0.content.0", "'input_audio' found"),
    "url": (
        {"type": "video_url", "video_url": {"url": 3}},
        "messages.0.content.0.video_url.url",
        "a valid string, or Input should be a valid list (found 3)",
    ),
    "text": ({"type": "text"}, "messages.0.content.0.text", "Field required"),
}


@pytest.mark.parametrize("name", INVALID_FIELDS)
def test_invalid_part_is_named(name: str, server: Server) -> None:
    part, param, message = INVALID_FIELDS[name]
    error = server.post("/v1/chat/completions", chat("What?", part)).json()["error"]
    assert error["param"] == param
    assert message in error["message"]


def test_invalid_choice_lists_all_types(server: Server) -> None:
    body = chat("What?", select="half")
    error = server.post("/v1/chat/completions", body).json()["error"]
    assert error["param"] == "select"
    assert "a valid integer" in error["message"]
    assert "'all'" in error["message"]


def test_metrics_count_a_known_sequence(server: Server, video_ids: list[str]) -> None:
    url = f"xcomp://{video_ids[1]}"
    text = server.ask(url, "What?").json()["choices"][0]["message"]["content"]
    before = server.metrics()
    first = server.ask(url, "What?").json()
    stopped = server.ask(url, "What?", stop=text[3], stream=True, max_tokens=1500)
    assert events(stopped)[-2]["choices"][0]["finish_reason"] == "stop"
    assert server.ask(url, "What?", n=2).status_code == 400
    assert server.http.get(f"/v1/videos/{video_ids[1]}/scores?q=What").status_code == 200
    after = server.metrics()
    change = {name.removeprefix("xcomp_"): after[name] - before[name] for name in after}
    assert change["answers_total"] == 2
    assert change["answer_seconds_count"] == change["first_token_seconds_count"] == 2
    assert change["cancelled_total"] == change["refused_total"] == 0
    assert change["frames_encoded_total"] == 0
    assert change["prompt_tokens_total"] == 2 * (
        first["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens_details"]["video_tokens"]
    )
    assert change["generated_tokens_total"] >= first["usage"]["completion_tokens"] + 1
    assert after["xcomp_questions_active"] == after["xcomp_questions_waiting"] == 0


def test_deleted_video_frees_its_memory(server: Server, videos: list[Path]) -> None:
    before = server.metrics()["xcomp_memory_bytes"]
    file_id = server.upload(videos[1])
    video = server.watch(file_id=file_id, num_frames=24)
    assert server.ask(f"xcomp://{video['id']}", "What?").status_code == 200
    assert server.metrics()["xcomp_memory_bytes"] > before
    assert server.http.delete(f"/v1/files/{file_id}").status_code == 200
    for _ in range(100):
        if server.metrics()["xcomp_memory_bytes"] == before:
            break
        time.sleep(0.02)
    assert server.metrics()["xcomp_memory_bytes"] == before


def test_stop_text_and_length_end_the_answer(server: Server, video_ids: list[str]) -> None:
    url = f"xcomp://{video_ids[0]}"
    whole = server.ask(url, "What happens?", max_tokens=30).json()["choices"][0]
    assert whole["finish_reason"] == "length"
    text = whole["message"]["content"]
    stop = text[len(text) // 2 :][:2]
    cut = server.ask(url, "What happens?", max_tokens=30, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == text[: text.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_curl_streams_an_answer(server: Server, video_ids: list[str]) -> None:
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video_ids[0]}"}}
    command = ["curl", "-sN", f"{server.url}/v1/chat/completions", "-d", "@-"]
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/json"],
        input=json.dumps(chat("What?", part, stream=True)),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2][6:])["xcomp"]["frames_seen"] == 24


NODE = """
const reply = await fetch(process.argv[1] + "/v1/chat/completions", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: process.argv[2]});
let text = "", chunks = 0;
for await (const part of reply.body.pipeThrough(new TextDecoderStream())) {
  chunks++; text += part;
}
console.log(JSON.stringify({status: reply.status, chunks, done: text.endsWith("[DONE]\\n\\n")}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_fetch_streams_an_answer(server: Server, video_ids: list[str]) -> None:
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video_ids[0]}"}}
    body = json.dumps(chat("What?", part, stream=True, max_tokens=32))
    command = ["node", "--input-type=module", "-e", NODE, server.url, body]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (result["status"], result["done"]) == (200, True)
    assert result["chunks"] > 1


def test_client_that_leaves_frees_its_work(server: Server, video_ids: list[str]) -> None:
    part = {"type": "video_url", "video_url": {"url": f"xcomp://{video_ids[0]}"}}
    body = chat("What?", part, stream=True, max_tokens=1500)
    before = server.metrics()["xcomp_cancelled_total"]
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
    for _ in range(2400):  # the first long answer compiles
        if server.metrics()["xcomp_cancelled_total"] > before:
            break
        time.sleep(0.05)
    assert server.metrics()["xcomp_cancelled_total"] == before + 1
    assert server.metrics()["xcomp_questions_active"] == 0


def test_error_inside_stream_is_an_event(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("#!/bin/sh\necho no video\n")
    reply = server.ask(f"xcomp://{server.upload(path)}", "What?", stream=True)
    error, done = events(reply)[-2:]
    assert done == "[DONE]"
    assert error["error"]["code"] == "invalid_video"
    assert "text.mp4" in error["error"]["message"]
    assert str(tmp_path) not in reply.text
    assert "/data/" not in reply.text
