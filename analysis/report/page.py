"""The page around the sections: head, overview, style and script, all in one text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.report.markup import Markup, element, joined

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(title: str, overview: Markup, sections: Mapping[str, Markup]) -> str:
    """The whole document: an overview and a section per run, by its name."""
    links = [
        element("li", element("a", name, href=f"#run-{number}"))
        for number, name in enumerate(sections)
    ]
    body = joined(
        [
            element("a", "Skip to the runs", href="#run-0", class_="skip"),
            element("header", element("h1", title)),
            element("nav", element("ul", *links), aria_label="runs"),
            element(
                "main",
                overview,
                *(
                    element("section", element("h2", name), content, id=f"run-{number}")
                    for number, (name, content) in enumerate(sections.items())
                ),
            ),
            element("script", Markup((HERE / "script.js").read_text(encoding="utf-8"))),
        ]
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup((HERE / "style.css").read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"
