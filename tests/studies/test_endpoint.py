"""A language model behind an endpoint: a real client against a real server on loopback, which behaves or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.errors import KnowscopeError, UsageError
from knowscope_tui.studies.interpretability import endpoint, prompts
from knowscope_tui.studies.interpretability.endpoint import EndpointError, EndpointInterpreter
from knowscope_tui.studies.interpretability.interpreter import Task
from tests.studies.test_interpretability import UNIT, after_cat, sentences, shown

Answer = Callable[[str], tuple[int, Any]]
"""What the server answers to a question: a status, and a text or a body."""


class Endpoint(ThreadingHTTPServer):
    """Answers chat completions with what `answer` says, and counts them."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.asked, self.keys = answer, 0, set[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        self.server.keys.add(self.headers.get("Authorization", ""))
        status, said = self.server.answer(body["messages"][-1]["content"])
        reply = said if isinstance(said, dict | list) else {"choices": [{"message": {"content": said}}]}
        raw = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_args: Any) -> None:
        """Quiet."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Endpoint]]:
    servers: list[Endpoint] = []
    monkeypatch.setattr(endpoint, "RETRIES", 1)

    def start(answer: Answer) -> Endpoint:
        server = Endpoint(answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def task() -> Task:
    return Task.of(UNIT, shown(sentences(), after_cat), 0)


def knowing(question: str) -> tuple[int, str]:
    """A model that has understood: the unit fires behind `cat`."""
    if "what does the unit fire on" in question:
        return 200, "It fires on the word after cat."
    if "Tokens: " in question:
        words = json.loads(question.split("Tokens: ")[1].split("\n")[0])
        return 200, str([10 if place and words[place - 1] == "cat" else 0 for place in range(len(words))])
    lines = [line.split(". ", 1)[1] for line in question.split("\n") if line[:1].isdigit() and ". " in line]
    if "<<" in question:
        return 200, f"Sure: {[int(' <<' in line and 'cat <<' in line) for line in lines]}"
    return 200, str([int("cat" in line and not line.endswith("cat")) for line in lines])


def test_a_model_that_understands_scores_high(
    serve: Callable[[Answer], Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    server = serve(knowing)
    found = EndpointInterpreter(server.url, "wise", tmp_path).interpret(task())
    assert found.simulation == pytest.approx(1.0)
    assert found.explanation == "It fires on the word after cat."
    assert server.keys == {"Bearer secret-key"}
    assert not any("secret-key" in file.read_text() for file in tmp_path.rglob("*.json"))


def test_nothing_is_asked_twice(serve: Callable[[Answer], Endpoint], tmp_path: Path) -> None:
    server = serve(knowing)
    first = EndpointInterpreter(server.url, "wise", tmp_path).interpret(task())
    asked = server.asked
    assert EndpointInterpreter(server.url, "wise", tmp_path).interpret(task()) == first
    assert server.asked == asked
    broken = next(tmp_path.glob("*.json"))
    broken.write_text('{"ans')
    assert EndpointInterpreter(server.url, "wise", tmp_path).interpret(task()) == first
    assert server.asked == asked + 1


def test_what_is_expected_is_what_is_asked(serve: Callable[[Answer], Endpoint], tmp_path: Path) -> None:
    server = serve(knowing)
    interpreter = EndpointInterpreter(server.url, "wise", tmp_path)
    told = interpreter.expected([task()])
    interpreter.interpret(task())
    assert f"at most {server.asked} calls" in told


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _q: (429, {"error": {"message": "slow down"}}), "too many requests"),
        (lambda _q: (401, {"error": {"message": "no"}}), "refuses the key"),
        (lambda _q: (404, {"error": {"message": "no"}}), "knows no model 'wise'"),
        (lambda _q: (500, {"error": {"message": "oh"}}), "status 500"),
        (lambda _q: (200, {"hello": "world"}), "no chat completion"),
        (lambda _q: (200, "I would rather talk about the weather."), "mostly answers with something else"),
        (lambda _q: (200, ""), "mostly answers with something else"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    serve: Callable[[Answer], Endpoint], tmp_path: Path, answer: Answer, said: str
) -> None:
    interpreter = EndpointInterpreter(serve(answer).url, "wise", tmp_path)

    def often() -> None:
        for _ in range(endpoint.PATIENCE):
            interpreter.interpret(task())

    with pytest.raises(EndpointError) as raised:
        often()
    assert said in raised.value.what
    assert raised.value.hint
    assert isinstance(raised.value, KnowscopeError)


def test_a_server_that_is_not_there_or_is_slow(
    serve: Callable[[Answer], Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SECONDS", 0.2)
    waits = threading.Event()

    def late(_question: str) -> tuple[int, str]:
        waits.wait(3)
        return 200, "too late"

    slow = serve(late)
    with pytest.raises(EndpointError, match="took longer"):
        EndpointInterpreter(slow.url, "wise", tmp_path).interpret(task())
    waits.set()
    with pytest.raises(EndpointError, match="no answer from the endpoint"):
        EndpointInterpreter("http://127.0.0.1:9/v1", "wise", tmp_path).interpret(task())
    with pytest.raises(UsageError, match="no address"):
        EndpointInterpreter("localhost", "wise", tmp_path)


def test_numbers_are_found_in_what_a_model_says() -> None:
    assert prompts.numbers_in("Here: [1, 2.5, 30] and done", 3) == [1.0, 2.5, 10.0]
    assert prompts.numbers_in("[1, 2]", 3) is None
    assert prompts.numbers_in('["a", 1, 2]', 3) is None
    assert prompts.numbers_in("nothing", 0) is None
    assert prompts.numbers_in("[x] then [1]", 1) == [1.0]
