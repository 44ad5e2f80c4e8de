"""The page as its script makes it: what it asks of the API, what it shows, and whom it lets in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.core import metrics
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.ledger import models
from segbench.report.text import i18n
from segbench.serve import __main__ as serve
from segbench.serve import listening, networks
from segbench.serve import page as package
from segbench.serve.page import __main__ as page
from segbench.serve.page import client, command, guard, tables, texts, viewer
from tests.page_api import VEHICLE, FakeApi, card, categories, serving
from tests.serving import photograph, promote
from tests.test_stats import random_confusions

streamlit_testing = pytest.importorskip("streamlit.testing.v1")
SCRIPT = Path(package.__file__).with_name("script.py")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.delenv("SEGBENCH_TOKEN", raising=False)
    with serving(FakeApi()) as running:
        monkeypatch.setenv("SEGBENCH_API", running.address)
        yield running


def opened(language: str = "en") -> Any:
    test = streamlit_testing.AppTest.from_file(str(SCRIPT), default_timeout=60)
    test.query_params["lang"] = language
    return test.run()


def give(test: Any, content: bytes) -> Any:
    return test.file_uploader(key="file").set_value(("street.png", content, "image/png")).run()


def html(test: Any) -> str:
    return "".join(element.proto.body for element in test.get("html"))


def viewed(test: Any) -> Any:
    """What the browser is given to show."""
    [found] = [one.proto for one in test.get("bidi_component") if one.proto.component_name == "segbench_viewer"]
    return json.loads(found.json)


def test_the_models_are_described_before_there_is_a_photograph(api: FakeApi) -> None:
    test = opened()
    assert not test.exception
    assert not test.error
    shown = html(test)
    for words in ("Try a photograph", "Model a", "Model b", "0.713", "(0.690 to 0.731)", "Test streets", "drawn"):
        assert words in shown
    assert api.photographs == []


def test_a_photograph_is_sent_once_and_shown(api: FakeApi) -> None:
    content = photograph(40, 70)
    test = give(opened(), content)
    assert not test.exception
    assert api.photographs == [content]
    data = viewed(test)
    assert (data["width"], data["height"], data["disagreement"]) == (70, 40, 0.25)
    assert [model["title"] for model in data["models"]] == ["Model a", "Model b"]
    sent = np.frombuffer(zlib.decompress(base64.b64decode(data["models"][1]["map"])), np.uint8).reshape(40, 70)
    assert np.array_equal(sent, categories(40, 70, 1))
    assert data["models"][1]["shares"][VEHICLE] == 0.25
    shown = html(test)
    assert "231.3\u00a0ms" in shown or "231.2\u00a0ms" in shown
    assert "402.0\u00a0ms" in shown
    assert len(test.get("download_button")) == 7
    test.button_group(key="language").set_value("fr").run()  # any touch runs the script again
    assert not test.exception
    assert api.photographs == [content]
    assert viewed(test)["language"] == "fr"
    assert "Téléchargements" in html(test)


def test_models_that_were_loaded_anew_are_asked_again(api: FakeApi) -> None:
    test = give(opened(), photograph())
    api.cards[0]["fingerprint"] = "another"
    test.run()
    assert len(api.photographs) == 2


def test_an_example_is_drawn(api: FakeApi) -> None:
    test = opened().button_group(key="source").set_value("example").run()
    assert not test.exception
    with Image.open(io.BytesIO(api.photographs[0])) as picture:
        assert (picture.format, picture.size) == ("PNG", (1024, 512))
    test.button_group(key="example").set_value(1).run()
    assert len(set(api.photographs)) == 2


def test_one_model_has_nobody_to_disagree_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FakeApi(models=1)) as api:
        monkeypatch.setenv("SEGBENCH_API", api.address)
        test = give(opened(), photograph())
        assert not test.exception
        assert viewed(test)["disagreement"] is None


@pytest.mark.parametrize(("status", "again"), [(415, False), (422, False), (503, True)])
def test_an_error_is_said_in_the_apis_words(status: int, again: bool, api: FakeApi) -> None:
    api.problem = (status, "the photograph is not to its taste")
    test = give(opened(), photograph())
    assert not test.exception
    assert [error.value for error in test.error] == ["the photograph is not to its taste"]
    assert [button.label for button in test.button] == ["Try again"] * again
    assert "Model b" in html(test)
    api.problem = None
    test.run()
    assert not test.error
    assert viewed(test)["width"] == 70


def test_an_api_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_API", "http://127.0.0.1:1")
    test = opened("fr")
    assert not test.exception
    assert "python -m segbench.serve" in test.error[0].value
    assert [button.label for button in test.button] == ["Réessayer"]


def test_the_token_is_borne_and_no_proxy_asked(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_TOKEN", "a token of some length")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    client.segment(photograph())
    assert api.tokens == ["Bearer a token of some length"]


def test_what_others_wrote_is_escaped() -> None:
    hostile = {**card("demo-a", "<script>alert(1)</script>"), "protocol_title": "<b>", "study": "<i>"}
    with i18n.speaking("en"):
        made = tables.cards([hostile])
    assert "&lt;script&gt;" in made
    for markup in ("<script>", "<dd><b></dd>", "<i>"):
        assert markup not in made


def test_a_large_turned_photograph_travels_small() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    pixels = viewer.photograph(photograph(2000, 3000, kind="JPEG", exif=exif))
    assert pixels.shape == (3000, 2000, 3)
    api = FakeApi()
    data = viewer.prepared("d", pixels, api.answer(photograph(3000, 2000)))
    assert (data["width"], data["height"]) == (1067, 1600)
    assert len(zlib.decompress(base64.b64decode(data["models"][0]["map"]))) == 1067 * 1600
    assert len(json.dumps(data)) < 2_000_000


def test_a_damaged_photograph_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="the photograph cannot be read"):
        viewer.photograph(photograph()[:200])


def test_both_languages_have_every_text() -> None:
    def keys(table: Any, before: str = "") -> list[str]:
        return [
            k for n, v in table.items() for k in (keys(v, f"{before}{n}.") if isinstance(v, dict) else [before + n])
        ]

    assert keys(texts.table("en")) == keys(texts.table("fr"))


def test_the_page_imports_no_network() -> None:
    script = "import sys, segbench.serve.page.screen, segbench.serve.page.__main__; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "streamlit" in found
    assert not {"torch", "optuna", "mlflow", "transformers"} & set(found)


def test_the_server_imports_no_page() -> None:
    script = "import sys, segbench.serve.__main__; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "streamlit"} & set(found)


def test_streamlit_is_told_to_keep_to_itself() -> None:
    from streamlit import config

    before = dict(config._config_options or {})
    try:
        page._configure()
        assert config.get_option("browser.gatherUsageStats") is False
        assert config.get_option("client.allowedOrigins") == []
        assert config.get_option("theme.dark.backgroundColor") == page._DARK["backgroundColor"]
    finally:
        config._config_options = before or None


Scope = dict[str, Any]


def ask(kind: str, **headers: str) -> tuple[list[Scope], list[Scope]]:
    """What reaches Streamlit of a request, and what is sent back by the guard itself."""
    inside: list[Scope] = []
    sent: list[Scope] = []

    async def streamlit(scope: Any, receive: Any, send: Any) -> None:
        inside.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": "/", "method": "GET", "headers": pairs}
    asyncio.run(guard.Guard(streamlit, ("127.0.0.1", "localhost"))(scope, lambda: None, send))  # type: ignore[arg-type]
    return inside, sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1:1", "origin": "http://evil.example"}]
)
def test_other_hosts_and_origins_are_refused(kind: str, headers: dict[str, str]) -> None:
    inside, sent = ask(kind, **headers)
    assert inside == []
    assert sent[0].get("status") == 403 or sent[0]["type"] == "websocket.close"


def test_an_origin_is_checked_here_and_nowhere_else() -> None:
    [scope], sent = ask("websocket", host="localhost:8001", origin="http://localhost:8001", cookie="c")
    assert sent == []
    assert [name for name, _ in scope["headers"]] == [b"host", b"cookie"]


def test_the_interval_of_a_models_miou(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    folder = promote("deeplab")
    [promoted] = models.promoted()
    assert networks.interval(promoted) is None
    counts = random_confusions(20, 0)
    np.savez(folder / "confusions.npz", confusions=counts, names=[f"scene{k}" for k in range(20)])
    low, high = networks.interval(promoted) or (0, 0)
    assert 0 < low < metrics.scores(counts.sum(0), DEFAULT).miou < high < 1
    (folder / "confusions.npz").write_bytes(b"PK")
    assert networks.interval(promoted) is None


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        ([], "127.0.0.1"),
        (["--host", "0.0.0.0", "--no-token"], "0.0.0.0"),
        (["--host", "0.0.0.0", "--token"], "127.0.0.1"),  # the page asks for none
    ],
)
def test_the_page_lets_nobody_past_a_token(arguments: list[str], host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @contextlib.contextmanager
    def beside(*given: Any) -> Iterator[None]:
        asked.append(given)
        yield

    monkeypatch.setattr(serve, "beside", beside)
    with listening.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        for chosen in ([], ["--no-page"]):
            with serve._page(serve._parser().parse_args([*arguments, *chosen]), listener):
                pass
    assert asked == [(f"http://127.0.0.1:{port}/", host, port + 1, [])]


def test_a_taken_port_is_left_to_others() -> None:
    with listening.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert command._free("127.0.0.1", port) not in (0, port)


def test_without_streamlit_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"segbench\[serve\]"), contextlib.ExitStack() as stack:
        stack.enter_context(command.beside("http://127.0.0.1:1", "127.0.0.1", 0, []))
