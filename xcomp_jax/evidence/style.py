"""The page's style sheet. Colours are variables, so that a test can compute their contrast."""

LIGHT = {
    "background": "#fcfcfb",
    "text": "#15181c",
    "muted": "#59616b",
    "line": "#dcdfe3",
    "strip": "#eceef0",
    "scored": "#89919b",
    "selected": "#0a5876",
}
DARK = {
    "background": "#111417",
    "text": "#e9ebee",
    "muted": "#a1a9b3",
    "line": "#2d3339",
    "strip": "#22272c",
    "scored": "#69727c",
    "selected": "#6fc3e0",
}
"""`text` and `muted` are text colours, `scored` and `selected` the colours of frames."""

RULES = """
* { box-sizing: border-box; margin: 0 }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body {
  background: var(--background); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
main {
  max-width: 66rem; margin: 0 auto;
  padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 2.5rem) 4rem;
}
h1, .answer {
  font-family: Charter, "Iowan Old Style", "Source Serif 4", "Noto Serif", Georgia, serif;
  font-weight: 400; white-space: pre-line; max-width: 46rem; text-align: start;
}
h1 {
  font-size: clamp(1.5rem, 1.1rem + 1.8vw, 2.25rem); line-height: 1.22; letter-spacing: -.01em;
  text-wrap: pretty;
}
h1.long { font-size: 1.2rem; line-height: 1.4; letter-spacing: 0 }
h2 { font-size: .875rem; font-weight: 600; line-height: 1.4 }
.about { color: var(--muted); font-size: .875rem; margin-bottom: .75rem }
.reply {
  margin-top: 1.75rem; padding-inline-start: 1rem; border-inline-start: 3px solid var(--selected);
  max-width: 47rem;
}
.reply h2 { color: var(--muted); font-weight: 400 }
.answer { font-size: 1.25rem; line-height: 1.45 }
.summary { margin-top: 1.75rem }
section { margin-top: clamp(2.25rem, 4vw, 2.75rem) }
section > h2 { border-top: 1px solid var(--line); padding-top: .75rem; margin-bottom: 1rem }
.note { color: var(--muted); font-size: .875rem; max-width: 46rem }
h2 + .note { margin: -.75rem 0 1rem }
figcaption { color: var(--muted); font-size: .8125rem }

.timeline { display: block; overflow: visible; margin-bottom: .75rem }
.timeline path { stroke-width: 1px; vector-effect: non-scaling-stroke }
.timeline .scored { fill: var(--scored); stroke: var(--scored) }
.timeline .selected, .timeline .marks { fill: var(--selected); stroke: var(--selected) }
.timeline .marks { stroke: none }
.timeline .strip { fill: var(--strip) }
.timeline .base, .timeline .tick { stroke: var(--scored); stroke-width: 1px }
.timeline text { fill: var(--muted); font-size: .75rem }
.key {
  display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0;
  margin-bottom: .75rem; font-size: .8125rem;
}
.key li::before {
  content: ""; display: inline-block; width: .7em; height: .7em; margin-inline-end: .5em;
  background: var(--selected);
}
.key .scored::before { background: var(--scored) }

.frames {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9.25rem, 1fr));
  gap: 1.25rem .875rem; list-style: none; padding: 0;
}
.frames img { display: block; width: 100%; height: auto; background: var(--strip) }
.frames figcaption {
  display: flex; justify-content: space-between; gap: .5rem; padding-top: .375rem;
}
.frames time { color: var(--text) }
.bar { display: block; width: 100%; height: 4px; margin-top: .125rem; background: var(--strip) }
.bar rect { fill: var(--selected) }

.tables {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  column-gap: 3rem;
}
table { width: 100%; border-collapse: collapse; font-size: .9375rem }
th, td {
  padding: .4375rem 0; border-bottom: 1px solid var(--line); text-align: start;
  vertical-align: baseline; font-weight: 400;
}
th + td, td + td, thead th + th { padding-inline-start: 1rem }
td { text-align: end }
.costs td:last-child { white-space: nowrap }
thead th { color: var(--muted); font-size: .8125rem }
thead th + th { text-align: end }
tfoot th, tfoot td { border-bottom: 0; font-weight: 600 }
.settings th { color: var(--muted) }

@media print {
  html { color-scheme: light }
  body { font-size: 10pt }
  main { max-width: none; padding: 0 }
  section { margin-top: 1.5rem }
  .timeline, .reply, .frames li, tr { break-inside: avoid }
  .timeline, .bar, .key, .frames img {
    print-color-adjust: exact; -webkit-print-color-adjust: exact;
  }
  .frames { grid-template-columns: repeat(5, 1fr) }
  h2 { break-after: avoid }
}
"""


def _variables(colors: dict[str, str]) -> str:
    return "; ".join(f"--{name}: {value}" for name, value in colors.items())


def stylesheet() -> str:
    """Returns the style sheet. The dark scheme applies to screens only, never to print."""
    return (
        f":root {{ {_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
        f"{RULES.strip()}\n"
    )
