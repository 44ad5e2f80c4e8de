"""The report's texts: every one is used, translated, and written as its language writes."""

import ast
import re
from pathlib import Path
from typing import Any

from segbench import report
from segbench.core import explained
from segbench.core.labels import DEFAULT
from segbench.core.protocol import KEEP
from segbench.core.study_record import TrialState
from segbench.report.text import i18n
from segbench.stats import Interval
from segbench.stats.taxonomy import PARTS


def flat(table: dict[str, Any], path: str = "") -> dict[str, str]:
    """Dotted key to text."""
    texts: dict[str, str] = {}
    for key, value in table.items():
        texts |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return texts


def test_every_text_is_translated() -> None:
    english, french = (flat(i18n.table(language)) for language in i18n.LANGUAGES)
    assert list(english) == list(french)
    for key, content in english.items():
        assert content.strip(), key
        assert french[key].strip(), key
        assert placeholders(content) == placeholders(french[key]), key
        words = re.findall(r"[^\W\d_]{2,}", re.sub(r"\{\w+\}", "", content))
        assert english[key] != french[key] or len(words) < 2, key  # "pixels" alone is both


def placeholders(content: str) -> set[str]:
    return set(re.findall(r"(?<!\{)\{(\w+)\}", content))


def test_every_text_is_used_and_every_key_used_is_there() -> None:
    """A key stands in the code as it is, or is put together: then its changing part stands there as a string."""
    keys = {key for key in flat(i18n.table("en")) if not key.startswith("glossary.")}  # glossary() takes all of these
    folder = Path(report.__file__).parent
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    templates = "".join(path.read_text() for path in folder.rglob("*.html"))
    asked = {key for node in nodes if is_text_call(node) for key in constants(node.args[0])}
    asked |= set(re.findall(r"text\('(\w+\.\w+)'", templates))
    assert asked - keys == set()
    composed = [composed_key(node) for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = {text for node in nodes for text in constants(node)} | {state.value for state in TrialState}
    parts |= {*DEFAULT.names, *PARTS, *KEEP, "sequences", "cities"}  # the last two: of stats.clusters
    parts |= {*explained.FILLS, *explained.CORRUPTIONS, *explained.MAPS, *explained.REASONS}
    unused = set()
    for key in keys - asked - parts:
        changing = {match[1] for pattern in composed if pattern and (match := pattern.fullmatch(key))}
        if not changing & parts:
            unused.add(key)
    assert unused == {f"language.{language}" for language in i18n.LANGUAGES}  # index.html puts these together


def is_text_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("text", "_say")


def constants(node: ast.AST) -> set[str]:
    """The strings of an expression, those inside of f-strings left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    inside = [] if isinstance(node, ast.JoinedStr) else [getattr(node, "body", None), getattr(node, "orelse", None)]
    return {text for part in inside if isinstance(part, ast.AST) for text in constants(part)}


def composed_key(node: ast.JoinedStr) -> re.Pattern[str] | None:
    """What an f-string such as f"quality.{key}_caption" may become."""
    parts = [re.escape(v.value) if isinstance(v, ast.Constant) else "(.+)" for v in node.values]
    return re.compile("".join(parts)) if parts.count("(.+)") == 1 and re.match(r"[a-z_]+\\\.", parts[0]) else None


def test_french_writes_numbers_the_french_way() -> None:
    interval = Interval(0.4534, 0.431, 0.474)
    with i18n.speaking("fr"):
        assert i18n.score(0.4534) == "0,453"
        assert i18n.score_range(interval) == "(0,431 à 0,474)"
        assert i18n.number(41_300_000) == "41\u202f300\u202f000"
        assert i18n.signed(-0.0123) == "−1,2"
        assert i18n.duration(8.14) == "8,1\u00a0s"
        assert i18n.clauses(["a", "b"]) == "a\u202f; b"
        assert i18n.text("page.footer", newest="", protocol="p").count("«\u00a0p\u00a0»") == 1
    assert i18n.score(0.4534) == "0.453"
    assert [i18n.number(v) for v in (0.9996, 1.0, 99.96, 568.2)] == ["1.00", "1.00", "100", "568"]
    assert i18n.signed(0.0123) == "+1.2"
    assert [i18n.percent(v).replace("\u00a0", " ") for v in (1.0, 0.9999, 0.5, 0.0001, 0.0)] == [
        "100 %", "> 99 %", "50 %", "< 1 %", "0 %",
    ]  # fmt: skip
