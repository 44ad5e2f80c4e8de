"""What is said of the models and of their work, as HTML: every word that is not ours is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from segbench.report.text import i18n
from segbench.serve.page.texts import text


def timings(report: Mapping[str, Any]) -> str:
    """Milliseconds by part: what each model took, and the request as a whole."""
    models, whole = report["models"], report["milliseconds"]
    head = "".join(f'<th scope="col" class="number">{escape(model["title"])}</th>' for model in models)
    rows = [
        _row(text(f"timings.{part}"), [_milliseconds(model["milliseconds"][part]) for model in models])
        for part in ("queue", "forward", "encode")
    ]
    rows.append(_row(text("timings.batch"), [str(model["batch"]) for model in models]))
    values = {name: _milliseconds(value) for name, value in whole.items()}
    return (
        f'<h2>{text("timings.title")}</h2><div class="scroll" tabindex="0"><table><thead><tr><th scope="col">'
        f"{text('timings.part')}</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{text("timings.whole", **values)}</p>'
    )


def cards(models: Sequence[Mapping[str, Any]]) -> str:
    """What each model is and how good it was."""
    return f'<h2>{text("cards.title")}</h2><div class="cards">{"".join(map(_card, models))}</div>'


def _card(model: Mapping[str, Any]) -> str:
    size = f"{model['size']['height']} × {model['size']['width']}"
    ends = model.get("miou_interval")
    between = text("cards.interval", low=i18n.score(ends[0]), high=i18n.score(ends[1])) if ends else ""
    pq = [(text("cards.pq"), f"<b>{i18n.score(model['pq'])}</b>")] if model.get("pq") is not None else []
    facts = (
        *pq,
        (text("cards.miou"), f"<b>{i18n.score(model['miou'])}</b> {escape(between)}"),
        (text("cards.protocol"), escape(model["protocol_title"])),
        (text("cards.validated"), text("cards.images", images=i18n.decimals(model["val_images"], 0))),
        (text("cards.size"), text("cards.pixels", size=size)),
        (text("cards.study"), text("cards.seed", study=escape(model["study"]), seed=model["seed"])),
        (text("cards.fingerprint"), f"<code>{escape(model['fingerprint'])}</code>"),
    )
    warning = f'<p class="banner">{text("cards.drawn")}</p>' if model["drawn"] else ""
    return f"<article><h3>{escape(model['title'])}</h3>{warning}<dl>{''.join(_facts(facts))}</dl></article>"


def _facts(facts: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)


def _row(name: str, values: Iterable[str]) -> str:
    cells = "".join(f'<td class="number">{value}</td>' for value in values)
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def _milliseconds(value: float) -> str:
    return f"{i18n.decimals(value, 1)}\u00a0ms"
