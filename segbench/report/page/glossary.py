"""Glossary terms in running text: the first of each in a section becomes a link that shows its meaning."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from segbench.report.text.i18n import glossary


class Terms:
    """Marks terms up. `fresh` begins a section, in which each term is marked once more."""

    def __init__(self) -> None:
        self._keys = {term.lower(): key for key, (term, _) in glossary().items()}
        longest = sorted(self._keys, key=len, reverse=True)  # "official mIoU" before "mIoU"
        names = "|".join(re.escape(name).replace(r"\ ", r"\s") for name in longest)
        self._pattern = re.compile(rf"(?<!\w)({names})(?!\w)", re.IGNORECASE)
        self._seen: set[str] = set()

    def fresh(self) -> str:
        """Forgets what was marked."""
        self._seen.clear()
        return ""

    def mark(self, content: str) -> Markup:
        """Text, escaped, in which `…` is a code element and the first of each term a link to its meaning."""
        parts = content.split("`")
        marked = [
            Markup("<code>{}</code>").format(part) if i % 2 else self._linked(part) for i, part in enumerate(parts)
        ]
        return Markup("").join(marked)

    def _linked(self, content: str) -> Markup:
        made = Markup("")
        for i, part in enumerate(self._pattern.split(content)):
            key = self._keys.get(re.sub(r"\s", " ", part.lower()), "") if i % 2 else ""
            if not key and i % 2:
                key = self._keys.get(part.lower(), "")
            if key and key not in self._seen:
                self._seen.add(key)
                made += Markup('<a class="term" href="#term-{}">{}</a>').format(key, part)
            else:
                made += escape(part)
        return made
