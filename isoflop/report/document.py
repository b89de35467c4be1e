"""The frame of every page: one HTML file that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from isoflop import __version__
from isoflop.report.markup import text
from isoflop.report.stylesheet import stylesheet

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Tells browsers what is true anyway: the page runs nothing and loads nothing."""


def document(title: str, body: str, source: str, budgets: int = 0, rules: str = "") -> str:
    """A whole page; ``body`` is HTML already, ``source`` says where its numbers are from.

    ``budgets`` is how many shades its figures need for budgets, ``rules`` the page's own CSS.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}</title>
<style>{stylesheet(budgets)}{rules}</style>
</head>
<body>
<main>
{body}<footer>isoflop {text(__version__)}: {text(source)}</footer>
</main>
</body>
</html>
"""
