"""The evidence of an answer: frame scores, selected frames, and cost.

`Evidence` is a plain value. It is written as JSON for programs or as one self-contained HTML page.
"""

from xcomp_jax.evidence.json_text import from_json, to_json
from xcomp_jax.evidence.page import to_html
from xcomp_jax.evidence.record import Cost, Evidence, Thumbnail, shown_name
from xcomp_jax.evidence.thumbnails import encode_thumbnail, make_thumbnails, spread
from xcomp_jax.evidence.write import check_evidence_path, write_evidence

__all__ = [
    "Cost",
    "Evidence",
    "Thumbnail",
    "check_evidence_path",
    "encode_thumbnail",
    "from_json",
    "make_thumbnails",
    "shown_name",
    "spread",
    "to_html",
    "to_json",
    "write_evidence",
]
