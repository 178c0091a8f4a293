"""The page to watch a model on: what it says of a model, who may ask, and the page itself in a browser."""

import base64
import http.client
import http.server
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy
import pytest
import torch
from helpers.small_models import WORDS, save_classifier, save_language_model, save_tagger

import lm.language
from lm.documents.checkpoint import TrainedClassifier
from lm.documents.command import classify
from lm.explore.units import features, follow
from lm.export.steps import load_step
from lm.language.generation import encode_prompt, generate, special_ids, texts
from lm.tagging.checkpoint import TrainedTagger
from lm.tagging.command import Reader
from unroll.errors import UserError

uvicorn = pytest.importorskip("uvicorn")

from lm.explore.models import LanguageModelView, Place, view_of  # noqa: E402
from lm.explore.server import AT_ONCE, LARGEST, PLACES, Server  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def model(tmp_path):
    """The page's side of a model that is saved first."""

    def make(save=save_language_model, *arguments, **settings):
        path = save(tmp_path / "model.ckpt", *arguments, **settings)
        return view_of(load_step(path, None, None), path, None)

    return make


QUOTED = [*'He said "yes, no" (so) and\nwent. A dog']


class TestUnits:
    def test_what_a_text_is_like_at_each_token(self):
        found = features(QUOTED)
        text = "".join(QUOTED)
        inside = [number for number, value in enumerate(found["inside quotation marks"].tolist()) if value]
        assert "".join(text[number] for number in inside) == 'yes, no"'
        brackets = [number for number, value in enumerate(found["inside brackets"].tolist()) if value]
        assert "".join(text[number] for number in brackets) == "so)"
        line = found["position in the line"].tolist()
        assert (line[0], line[10], line[text.index("\n")], line[text.index("w")]) == (1, 11, 0, 1)
        assert [text[number] for number in found["after a capital"].nonzero().flatten()] == ["e", " "]
        assert "inside quotation marks" not in features([*"no marks at all in this text"])

    def test_the_unit_that_follows_a_feature_is_found(self):
        found = features(QUOTED)
        names = [*found]
        torch.manual_seed(0)
        units = torch.rand(20, len(QUOTED))
        units[7] = -3 * found["position in the line"] + 0.01 * torch.rand(len(QUOTED))
        closeness = follow(units, found)
        assert closeness.shape == (20, len(names))
        assert closeness.abs().amax(1).argmax() == 7
        assert closeness[7, names.index("position in the line")] == pytest.approx(-1, abs=1e-3)
        expected = numpy.corrcoef(units[3].numpy(), found["position in the line"].numpy())[0, 1]
        assert closeness[3, names.index("position in the line")] == pytest.approx(expected, abs=1e-5)


def written(writer, prompt, length, place=None, temperature=0, top_k=None):
    *events, place = writer.write(prompt, place, length, temperature, top_k)
    return [event for event in events if event], place


class TestWriting:
    @pytest.mark.parametrize("model_class", [lm.language.GRU, lm.language.CharLSTM, lm.language.Loop])
    def test_it_writes_what_generate_writes_with_the_probability_of_each_token(self, model, model_class):
        writer = model(save_language_model, model_class)
        assert isinstance(writer, LanguageModelView)
        events, _ = written(writer, "the cat", 30)
        prompt, never = encode_prompt(writer.vocabulary, "the cat"), special_ids(writer.vocabulary)
        tokens = [*islice(generate(writer.model, prompt, greedy=True, context=writer.context, never=never), 30)]
        assert "".join(event["text"] for event in events) == "".join(texts(writer.vocabulary, tokens))
        for event in events:  # the likeliest was taken each time
            assert event["others"][0] == [event["text"], event["p"]]
            assert [share for _, share in event["others"]] == sorted((s for _, s in event["others"]), reverse=True)
        scores = writer.model(prompt[None][:, -(writer.context or 0) :])[0][0, -1]
        scores[list(never)] = -torch.inf
        assert events[0]["p"] == pytest.approx(scores.softmax(0).max().item(), abs=1e-4)

    def test_it_goes_on_from_a_place_as_if_it_had_not_stopped(self, model):
        writer = model(save_language_model, lm.language.AWDLSTM, WORDS)
        whole, _ = written(writer, "the cat", 20)
        first, place = written(writer, "the cat", 8)
        rest, _ = written(writer, "", 12, place)
        assert first + rest == whole
        prompted, _ = written(writer, "the dog", 3, place)
        again, _ = written(writer, "the dog", 3, place)
        assert prompted == again != rest[:3]

    def test_top_k_and_temperature(self, model):
        writer = model(save_language_model, lm.language.GRU)
        torch.manual_seed(0)
        events, _ = written(writer, "the", 50, temperature=1.0, top_k=2)
        assert all(event["text"] in dict(event["others"][:2]) for event in events)
        assert len({event["text"] for event in events}) > 2
        events, _ = written(writer, "the", 50, temperature=5.0)
        assert any(event["text"] not in dict(event["others"][:2]) for event in events)

    @pytest.mark.parametrize(
        ("prompt", "words"),
        [
            ("", "the prompt is empty"),
            ("zebra", "that the model does not know: 'z', 'b'"),
            ("a" * 2001, "2,001 tokens"),
        ],
    )
    def test_a_prompt_that_cannot_be_read(self, model, prompt, words):
        with pytest.raises(UserError, match=words):
            written(model(save_language_model, lm.language.GRU), prompt, 1)


class TestReading:
    def test_each_token_with_its_probability_and_each_unit_with_its_values(self, model):
        writer = model(save_language_model, lm.language.CharLSTM)
        text = "the red cat\n"
        tokens, units = (event for event in writer.read(text) if event)
        ids = writer.vocabulary.encode(text)
        scores, _ = writer.model(ids[None])
        expected = scores[0, :-1].softmax(-1).gather(1, ids[1:, None])[:, 0]
        assert [token["text"] for token in tokens["tokens"]] == [*text]
        assert tokens["tokens"][0]["p"] is None
        assert [token["p"] for token in tokens["tokens"][1:]] == pytest.approx(expected.tolist(), abs=1e-4)

        state, hidden = None, []
        for token in ids:
            _, state = writer.model(token.view(1, 1), state)
            hidden.append(state[0].flatten())
        expected = torch.stack(hidden, 1)
        values = numpy.frombuffer(base64.b64decode(units["values"]), numpy.int8).reshape(expected.shape)
        low, high = expected.amin(1, keepdim=True), expected.amax(1, keepdim=True)
        numpy.testing.assert_allclose((values / 127 + 1) / 2, ((expected - low) / (high - low)).detach(), atol=0.005)
        closeness = follow(expected.detach(), features([*text]))
        assert units["features"] == [*features([*text])]
        numpy.testing.assert_allclose(units["closeness"], closeness, atol=0.001)

    def test_words_stand_apart(self, model):
        writer = model(save_language_model, lm.language.GRU, WORDS)
        (tokens, _) = (event for event in writer.read("the red\ncat") if event)
        assert [token["text"] for token in tokens["tokens"]] == ["the", " red", " cat"]

    def test_a_model_without_a_state_has_no_units(self, model):
        assert len([event for event in model(save_language_model, lm.language.Loop).read("the cat") if event]) == 1

    def test_a_tagger_labels_what_tag_labels(self, model, tmp_path):
        labeller = model(save_tagger)
        text = "The cat, 333 times.\n\n the mat"
        parts = [part for event in labeller.read(text) for part in event["tokens"]]
        assert "".join(part["text"] for part in parts) == text
        reader = Reader(TrainedTagger.load(tmp_path / "model.ckpt"))
        expected = reader.label(["The", "cat", ",", "333", "times", "."]) + reader.label(["the", "mat"])
        assert [part["label"] for part in parts if "label" in part] == expected

    def test_a_tagger_that_reads_more_than_words_is_refused(self, model):
        with pytest.raises(UserError, match=r"the model reads pos too, which is not in a text; .*data\.extra=\[\]"):
            model(save_tagger, extras=True)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_verdict_ends_where_classify_ends(self, model, tmp_path, backwards):
        judge = model(save_classifier, backwards)
        text = "the dog sat and ran to the zebra " * 3
        words = [word for event in judge.read(text) for word in event["tokens"]]
        assert len(words) == 24
        expected = classify([TrainedClassifier.load(tmp_path / "model.ckpt")], text)
        assert words[-1]["shares"] == pytest.approx(expected.tolist(), abs=1e-4)

    @pytest.mark.parametrize(("save", "text"), [(save_tagger, " \n"), (save_classifier, " ")])
    def test_an_empty_text(self, model, save, text):
        with pytest.raises(UserError, match="the text is empty"):
            list(model(save).read(text))


@contextmanager
def serving(model):
    """A server of the model in a thread, and its port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = Server(model)
    running = uvicorn.Server(uvicorn.Config(server.app(port), log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield server, port
    finally:
        running.should_exit = running.force_exit = True
        thread.join(10)


def asked(port, path, content=None, **headers):
    """The status and the lines of an answer; a request with content is a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request("GET" if body is None else "POST", path, body, given)
    answer = connection.getresponse()
    lines = answer.read().decode().splitlines()
    connection.close()
    return answer.status, lines


@pytest.fixture
def server(model):
    with serving(model(save_language_model, lm.language.GRU)) as running:
        yield running


def settled(server):
    """Waits until nothing is being worked on."""
    until = time.monotonic() + 100
    while server.working and time.monotonic() < until:
        time.sleep(0.02)
    assert server.working == 0


class TestServer:
    def test_text_and_then_the_place(self, server):
        running, port = server
        status, lines = asked(port, "/write", {"prompt": "the", "length": 5, "temperature": 0})
        *tokens, last = map(json.loads, lines)
        assert (status, len(tokens), [*last]) == (200, 5, ["place"])
        assert isinstance(running.places[last["place"]], Place)
        going_on = {"prompt": "", "place": last["place"], "length": 5, "temperature": 0}
        status, more = asked(port, "/write", going_on)
        whole = asked(port, "/write", {"prompt": "the", "length": 10, "temperature": 0})[1]
        assert lines[:-1] + more[:-1] == whole[:-1]

    @pytest.mark.parametrize(
        ("content", "headers", "status", "words"),
        [
            ({"prompt": ""}, {}, 400, "the prompt is empty"),
            ({"prompt": "zebra"}, {}, 400, "does not know: 'z', 'b'"),
            ({"prompt": "the", "length": -1}, {}, 400, "length must be a number from 0 to"),
            ({"prompt": "the", "temperature": "hot"}, {}, 400, "temperature must be a number"),
            ({"prompt": "the", "place": "elsewhere"}, {}, 400, "that place is no longer kept"),
            ({"prompt": ["the"]}, {}, 400, "prompt must be a text"),
            ([1], {}, 400, "a request is a JSON object"),
            (b"not json", {}, 400, "the request is not JSON in UTF-8"),
            (b'{"prompt": "\xff\xfe"}', {}, 400, "the request is not JSON in UTF-8"),
            ({"prompt": "a" * 10_000_000}, {}, 413, "that is too long: more than 1,048,576 bytes"),
            ({"prompt": "the"}, {"Content_Type": "text/plain"}, 415, "a request is JSON"),
        ],
        ids=str,
    )
    def test_a_request_that_cannot_be_answered_gets_one_line(self, server, content, headers, status, words):
        running, port = server
        found, lines = asked(port, "/write", content, **headers)
        assert (found, len(lines)) == (status, 1)
        assert words in json.loads(lines[0])["error"]
        settled(running)
        assert asked(port, "/write", {"prompt": "the", "length": 1})[0] == 200

    @pytest.mark.parametrize("content", [100_000 * b"[", 50_000 * b'{"a":'], ids=["lists", "objects"])
    def test_a_deep_request_gets_one_too(self, server, content):
        status, lines = asked(server[1], "/write", content)
        assert (status, json.loads(lines[0])["error"]) == (400, "the request is not JSON in UTF-8")

    @pytest.mark.parametrize("save", [save_tagger, save_classifier])
    def test_what_is_no_unicode_comes_back_as_it_was(self, model, save):
        with serving(model(save)) as (_, port):
            status, lines = asked(port, "/read", {"text": "the \ud800 cat"})
        assert status == 200
        assert "\ud800" in "".join(token["text"] for line in lines for token in json.loads(line)["tokens"])

    @pytest.mark.parametrize(("save", "path"), [(save_language_model, "/write"), (save_classifier, "/read")])
    def test_a_model_that_computes_nan_is_said_to(self, model, save, path):
        made = model(*([save, lm.language.GRU] if save is save_language_model else [save]))
        with torch.no_grad():
            for parameter in (made.model if save is save_language_model else made.step.model).parameters():
                parameter.fill_(torch.nan)
        with serving(made) as (_, port):
            status, lines = asked(port, path, {"text": "the cat", "prompt": "the"})
        assert (status, [*json.loads(lines[-1])]) == (200, ["error"])
        assert "computes nan" in lines[-1]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},  # a name that is pointed at this machine
            {"Host": "evil.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", ["/", "/about", "/write"])
    @pytest.mark.few(10)
    def test_nobody_else_may_ask(self, server, headers, path):
        _, port = server
        headers = {name: value.format(port=port) for name, value in headers.items()}
        status, lines = asked(port, path, {"prompt": "the"} if path == "/write" else None, **headers)
        assert (status, lines) == (403, ['{"error":"this server answers pages of its own alone"}'])

    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
    def test_its_own_page_may(self, server, name):
        _, port = server
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}", "Sec_Fetch_Site": "same-origin"}
        assert asked(port, "/write", {"prompt": "the", "length": 1}, **own)[0] == 200

    @pytest.mark.slow
    def test_fifty_readers_take_turns(self, server):
        running, port = server
        finished, order = [], []

        def reader(number):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
            content = json.dumps({"prompt": "the", "length": 60}).encode()
            connection.request("POST", "/write", content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            for line in answer:
                order.append(number)
                if b"place" in line:
                    finished.append(number)

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(reader, range(50)))
        assert sorted(finished) == [*range(50)]
        firsts = [order.index(number) for number in range(50)]
        assert max(firsts) < len(order) / 2  # nobody waits for another to be finished
        settled(running)

    def test_more_than_it_serves_are_told_to_come_back(self, server):
        running, port = server
        running.working = AT_ONCE
        status, lines = asked(port, "/write", {"prompt": "the"})
        assert (status, json.loads(lines[0])["error"]) == (
            503,
            f"{AT_ONCE} others are being served; try again in a moment",
        )
        running.working = 0

    def test_a_reader_who_leaves_is_not_written_for(self, server):
        running, port = server
        for _ in range(5):
            connection = socket.create_connection(("127.0.0.1", port))
            content = json.dumps({"prompt": "the", "length": 100_000}).encode()
            head = f"POST /write HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            connection.close()
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b'{"prompt')
        half.close()
        settled(running)
        assert len(running.places) == 0

    def test_the_latest_places_are_kept(self, server):
        running, port = server
        names = [
            json.loads(asked(port, "/write", {"prompt": "the", "length": 0})[1][-1])["place"] for _ in range(PLACES + 2)
        ]
        assert [*running.places] == names[2:]

    def test_a_body_is_not_read_beyond_what_is_taken(self, server):
        _, port = server
        connection = socket.create_connection(("127.0.0.1", port))
        head = f"POST /write HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode() + b"x" * (LARGEST + 2**16))
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
        connection.close()

    @pytest.mark.slow
    def test_memory_does_not_grow_over_a_thousand_requests(self, server):
        running, port = server
        resource = pytest.importorskip("resource")
        before = None
        for number in range(1000):
            assert asked(port, "/write", {"prompt": "the cat", "length": 20})[0] == 200
            assert asked(port, "/read", {"text": "the red cat sat"})[0] == 200
            assert asked(port, "/write", {"prompt": "zebra"})[0] == 400
            if number == 200:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        settled(running)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page; at the end, nothing may have been reported in its console, nor asked from elsewhere."""
    pages, reported = [], []

    def open_page(port, **settings):
        page = browser.new_page(**settings)
        page.set_default_timeout(30_000)
        page.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: reported.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(f"http://127.0.0.1:{port}/") else reported.append(asked.url),
        )
        page.goto(f"http://127.0.0.1:{port}/")
        pages.append(page)
        return page

    open_page.reported = reported
    yield open_page
    for page in pages:
        page.close()
    assert reported == []


def colours(page, place):
    return page.locator(f"{place} span").evaluate_all("spans => spans.map(span => span.style.background)")


class TestPage:
    def test_it_writes_reads_and_goes_back(self, server, opened):
        _, port = server
        page = opened(port)
        page.fill("#prompt", "the cat")
        page.fill("#length", "40")
        page.fill("#temperature", "0")
        page.keyboard.press("Control+Enter") if page.locator("#prompt").focus() else page.click("#write .go")
        page.locator("#save:enabled").wait_for()
        text = page.locator("#written").text_content()
        assert len(text) == 47
        assert text.startswith("the cat")
        assert len(set(colours(page, "#written"))) > 2
        page.locator("#written").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert page.locator("#write-detail").text_content().startswith(text[7].replace(" ", "␣").replace("\n", "↵"))
        assert page.locator("#write-detail").text_content().count("%") >= 5

        page.click("#save")
        page.fill("#prompt", " and")
        page.click("#write .go")
        page.locator("#save:enabled").wait_for()
        assert page.locator("#written").text_content().startswith(f"{text} and")
        page.get_by_role("button", name="From the start").click()
        assert page.locator("#prompt").input_value() == "the cat s"

        page.locator("#tab-write").focus()
        page.keyboard.press("ArrowRight")
        page.fill("#text", "the red cat sat on the mat and the dog ran\nto the red house")
        page.click("#read .go")
        page.locator("#read .stop:disabled").wait_for()
        first = colours(page, "#shown")
        assert len(set(first)) > 3
        page.locator("#unit").focus()
        page.keyboard.press("ArrowRight")
        assert colours(page, "#shown") != first
        page.select_option("#feature", label="at a blank")
        assert "follows “at a blank”" in page.locator("#unit-name").text_content()

    @pytest.mark.slow
    @pytest.mark.parametrize("width", [360, 1200])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_a_phone_and_a_desk_in_light_and_dark(self, server, opened, width, scheme):
        _, port = server
        page = opened(port, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.click("#write .go")
        page.locator("#save:enabled").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
        light = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in (paper, ink)]
        assert (light[0] > light[1]) == (scheme == "light")

    @pytest.mark.slow
    def test_stop_and_a_server_that_is_stopped(self, model, opened):
        with serving(model(save_language_model, lm.language.GRU)) as (running, port):
            page = opened(port)
            page.fill("#length", "100000")
            page.click("#write .go")
            page.locator("#written span").nth(20).wait_for()
            page.click("#write .stop")
            page.get_by_text("Stopped.").wait_for()
            settled(running)
            page.fill("#prompt", "zebra")
            page.click("#write .go")
            page.get_by_text("does not know").wait_for()
        page.click("#write .go")
        page.get_by_text("The server does not answer").wait_for()
        assert all("ERR_CONNECTION" in words or "400" in words for words in opened.reported)
        opened.reported.clear()

    @pytest.mark.slow
    @pytest.mark.parametrize("save", [save_tagger, save_classifier])
    def test_labels_as_colours_and_a_verdict_word_by_word(self, model, opened, save):
        with serving(model(save)) as (_, port):
            page = opened(port)
            page.fill("#text", "the cat sat on the mat , 333 cats")
            page.click("#read .go")
            page.locator("#labels").wait_for()
            assert len(set(colours(page, "#shown"))) > 1
            assert page.locator("#labels li").count() == (1 if save is save_tagger else 3)
            assert page.locator("#course polyline").count() == (0 if save is save_tagger else 3)
            page.locator("#shown").focus()
            page.keyboard.press("End")
            assert "cats " in page.locator("#read-detail").text_content()

    @pytest.mark.slow
    def test_a_page_from_elsewhere_gets_nothing(self, server, browser):
        _, port = server

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>elsewhere</title>")

            def log_message(self, *arguments):
                pass

        other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        ask = """async ([port, mode, headers]) => {
            try {
                const asked = {method: "POST", mode, headers, body: '{"prompt": "the"}'};
                const answer = await fetch(`http://127.0.0.1:${port}/write`, asked);
                return answer.type === "opaque" ? "opaque" : await answer.text();
            } catch (error) { return "refused"; }
        }"""
        assert page.evaluate(ask, [port, "cors", {"content-type": "application/json"}]) == "refused"
        assert page.evaluate(ask, [port, "no-cors", {}]) in ("refused", "opaque")
        page.close()
        other.shutdown()


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    import signal
    import subprocess
    import sys

    from helpers.processes import ROOT

    save_language_model(tmp_path / "model.ckpt", lm.language.GRU)
    typed = [sys.executable, "-m", "lm.explore", "model.ckpt", "--port", "0"]
    process = subprocess.Popen(typed, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})
    try:
        line = process.stderr.readline()
        assert line.startswith("http://127.0.0.1:")
        port = int(line.split()[0].rpartition(":")[2])
        assert asked(port, "/about")[0] == 200
        taken = subprocess.run(
            [*typed[:-1], str(port)], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
        )
        assert (taken.returncode, taken.stderr) == (
            1,
            f"error: --port {port}: can't be used (another program may have it); choose another\n",
        )
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)
    assert "Traceback" not in process.stderr.read()
