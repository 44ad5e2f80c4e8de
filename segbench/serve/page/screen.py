"""The whole page, from top to bottom: choosing a photograph, what the models make of it, and what they are."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
from PIL import Image

from segbench.core.errors import UserError
from segbench.data import pictures
from segbench.report.text import i18n
from segbench.serve.page import client, tables, viewer
from segbench.serve.page.texts import NAMES, text

EXAMPLES = ((1003, 15), (1006, 30), (1001, 5), (1005, 25))  # seed and city of drawn streets, chosen by eye
_EXAMPLE_SIZE = (512, 1024)  # pixels
_KINDS = ("jpg", "jpeg", "png", "webp")
_MEGABYTES = 200  # of an upload, as the API takes them


class Shown(NamedTuple):
    """A photograph and all that was made of it: kept for as long as its visitor looks at it."""

    digest: str
    photograph: bytes
    answer: bytes  # the API's, as it came
    report: Mapping[str, Any]
    data: Mapping[str, Any]  # the viewer's


def show() -> None:
    """Draws the page; Streamlit calls this after every touch."""
    st.set_page_config("segbench", layout="wide", menu_items={"about": None})
    st.html(Path(__file__).with_name("style.css"))
    with i18n.speaking(_language()):
        _header()
        with _problems_shown():
            models = client.models()
            with _problems_shown():
                photograph = _chosen()
                if photograph is not None:
                    _results(_answered(photograph, models))
            st.html(tables.cards(models["models"]))
        viewer.declare_language()


@contextlib.contextmanager
def _problems_shown() -> Iterator[None]:
    """What goes wrong inside is said there, with a button where it may go better."""
    try:
        yield
    except UserError as error:
        st.error(str(error))
        if isinstance(error, client.Unavailable):
            st.button(text("again"))


def _language() -> str:
    """What the visitor chose, else what the address or the browser asks for."""
    asked = st.query_params.get("lang") or (st.context.locale or "")[:2].lower()
    return str(st.session_state.get("language") or (asked if asked in NAMES else "en"))


def _header() -> None:
    title = f'<p class="kicker">segbench</p><h1>{text("title")}</h1><p class="lead">{text("lead")}</p>'
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="top"):
        st.html(title, width="content")
        st.segmented_control(
            text("language"), list(NAMES), format_func=NAMES.__getitem__, default=i18n.language(), key="language",
            required=True, label_visibility="collapsed",
        )  # fmt: skip


def _chosen() -> bytes | None:
    """The photograph's bytes, once there is one."""
    way = st.segmented_control(
        text("source.label"), ("file", "camera", "example"), format_func=lambda one: text(f"source.{one}"),
        default="file", key="source", required=True,
    )  # fmt: skip
    if way == "example":
        number = st.segmented_control(
            text("source.which"), range(len(EXAMPLES)), format_func=lambda one: text(f"examples.{one}"), default=0,
            key="example", required=True,
        )  # fmt: skip
        return drawn(number)
    if way == "camera":
        taken = st.camera_input(text("source.take"), key="camera")
        return taken.getvalue() if taken else None
    given = st.file_uploader(text("source.drop", megabytes=_MEGABYTES), _KINDS, key="file", max_upload_size=_MEGABYTES)
    return given.getvalue() if given else None


@functools.cache
def drawn(number: int) -> bytes:
    """One of EXAMPLES as a PNG."""
    from segbench.data import streets

    buffer = io.BytesIO()
    Image.fromarray(streets.draw(*EXAMPLES[number], *_EXAMPLE_SIZE)[0]).save(buffer, "PNG")
    return buffer.getvalue()


def _answered(photograph: bytes, models: Mapping[str, Any]) -> Shown:
    """What the API says of it; asked once for each photograph and set of models. Raises UserError."""
    fingerprints = [model["fingerprint"] for model in models["models"]]
    digest = hashlib.sha256(photograph + repr(fingerprints).encode()).hexdigest()
    shown = st.session_state.get("shown")
    if shown is None or shown.digest != digest:
        with st.spinner(text("working")):
            answer = client.segment(photograph)
            report = json.loads(answer)
            data = viewer.prepared(digest, viewer.photograph(photograph), report)
        st.session_state["shown"] = shown = Shown(digest, photograph, answer, report, data)
    return shown


def _results(shown: Shown) -> None:
    viewer.mount(shown.data)
    st.html(tables.timings(shown.report))
    st.html(f"<h2>{text('downloads.title')}</h2>")
    models = shown.report["models"]
    for column, model in zip(st.columns(len(models)), models, strict=True):
        with column:
            st.html(f"<h3>{html.escape(model['title'])}</h3>")
            with st.container(horizontal=True):
                _downloads(shown.photograph, model)
    st.download_button(
        text("downloads.json"), shown.answer, "segbench.json", "application/json", on_click="ignore", key="json"
    )


def _downloads(photograph: bytes, model: Mapping[str, Any]) -> None:
    """One model's pictures, each as large as the photograph; made of the mask that is shown, when asked for."""

    def overlay() -> bytes:
        return _png(
            pictures.overlay(viewer.photograph(photograph), viewer.categories(model["mask"]), viewer.colours(model))
        )

    def label_ids() -> bytes:
        return _png(pictures.label_ids(viewer.categories(model["mask"]), [one["id"] for one in model["legend"]]))

    def mask() -> bytes:
        return base64.b64decode(model["mask"])

    def instance_ids() -> bytes:
        return _png(viewer.instance_ids(model))

    name = model["model"]
    kinds = {"mask": mask, "overlay": overlay, "label-ids": label_ids}
    if model.get("panoptic"):
        kinds["instance-ids"] = instance_ids
    for kind, made in kinds.items():
        st.download_button(
            text(f"downloads.{kind}"), made, f"{name}-{kind}.png", "image/png", on_click="ignore", key=f"{name}-{kind}"
        )


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
