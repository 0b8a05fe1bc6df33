"""Formats numbers, times and sentences of the evidence page, and escapes text for HTML."""

from __future__ import annotations

import html
import re

from xcomp_jax.evidence.record import Evidence

# Characters that HTML forbids: control characters, and lone surrogates, which occur in file names
# of unknown encoding.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def escape_html(text: str) -> str:
    """Escapes `text` for an element or a quoted attribute."""
    return html.escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def clock(seconds: float, decimals: int = 0) -> str:
    """Formats seconds as h:mm:ss, with `decimals` fractional digits."""
    units = 10**decimals
    whole, fraction = divmod(round(seconds * units), units)
    text = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{text}.{fraction:0{decimals}}" if decimals else text


def clock_decimals(spacing: float) -> int:
    """Returns 1 for moments less than a second apart, else 0; more digits are hard to read."""
    return 1 if 0 < spacing < 1 else 0


def duration_text(seconds: float) -> str:
    """Formats a duration: 340 ms, 12.3 s, 2 min 5 s, 1 h 2 min."""
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


def frame_count(count: int) -> str:
    """Formats a number of frames: 1 frame, 1,024 frames."""
    return f"{count:,} frame{'' if count == 1 else 's'}"


def score_text(value: float) -> str:
    """Formats a score with three significant digits, and powers of ten as superscripts."""
    digits, _, power = f"{value:.3g}".replace("-", MINUS).partition("e")
    if not power:
        return digits
    exponent = str(int(power.replace(MINUS, "-"))).translate(SUPERSCRIPT)
    return f"{digits} {TIMES} 10{exponent}"


def percent(share: float) -> str:
    """Formats 0 to 1 as 0 % to 100 %."""
    return f"{100 * share:.0f} %"


def setting_text(value: object) -> str:
    """Formats the value of a setting; flags as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def summary(evidence: Evidence) -> str:
    """Formats one sentence: frames sampled, and frames the answer is based on."""
    sampled, selected = len(evidence.frame_times), len(evidence.selected_frames)
    text = f"Sampled {frame_count(sampled)}"
    if evidence.duration > 0:
        text += f" from a video of {duration_text(evidence.duration)}"
    if selected < sampled:
        return f"{text}; the answer is based on {selected:,} of them."
    return f"{text}; the answer is based on {'it' if sampled == 1 else 'all of them'}."
