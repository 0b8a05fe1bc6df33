"""Builds a complete HTML document that loads nothing and runs no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from xcomp_jax.evidence.wording import escape_html

GENERATOR = '<meta name="generator" content="xcomp">'
"""Tells pages of this project from others."""


def html_document(title: str, parts: Iterable[str], style: str) -> str:
    """Returns a page with one style sheet; empty `parts` are left out.

    Its content security policy forbids loading or running anything.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{GENERATOR}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape_html(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{chr(10).join(part for part in parts if part)}
</main>
</body>
</html>
"""
