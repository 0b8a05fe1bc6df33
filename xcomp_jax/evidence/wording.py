"""Numbers and times in words, and text that is safe in HTML."""

from __future__ import annotations

import html
import re

from xcomp_jax.evidence.record import Evidence

# What no HTML document may hold: control characters, and halves of surrogate pairs, which file
# names of unknown encoding bring along.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def escaped(text: str) -> str:
    """`text` as HTML that shows exactly it, in an element or a quoted attribute."""
    return html.escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def clock(seconds: float, decimals: int = 0) -> str:
    """h:mm:ss, with `decimals` digits of the second's fraction."""
    units = 10**decimals
    whole, fraction = divmod(round(seconds * units), units)
    text = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{text}.{fraction:0{decimals}}" if decimals else text


def clock_decimals(spacing: float) -> int:
    """Tenths for moments less than a second from each other; finer stamps are hard to read."""
    return 1 if 0 < spacing < 1 else 0


def lasting(seconds: float) -> str:
    """A length of time: 340 ms, 12.3 s, 2 min 5 s, 1 h 2 min."""
    if 0 < seconds < 0.0005:
        return "under 1 ms"
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def frames(count: int) -> str:
    """1 frame, 1,024 frames."""
    return f"{count:,} frame{'' if count == 1 else 's'}"


def score(value: float) -> str:
    """Three significant digits, with a power of ten written as one."""
    digits, _, power = f"{value:.3g}".replace("-", MINUS).partition("e")
    if not power:
        return digits
    exponent = str(int(power.replace(MINUS, "-"))).translate(SUPERSCRIPT)
    return f"{digits} {TIMES} 10{exponent}"


def percent(share: float) -> str:
    """0 to 1 as 0 % to 100 %."""
    return f"{100 * share:.0f} %"


def setting(value: object) -> str:
    """A setting's value; yes and no for flags."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def summary(evidence: Evidence) -> str:
    """How much was looked at, and how much of it the answer came from: one sentence."""
    looked, used = len(evidence.frame_times), len(evidence.selected_frames)
    seen = f"Looked at {frames(looked)}"
    if evidence.duration > 0:
        seen += f" of a video of {lasting(evidence.duration)}"
    if used < looked:
        return f"{seen}, answered from {used:,}."
    return f"{seen} and answered from {'it' if looked == 1 else 'all of them'}."
