"""Public names of the ChatML prompt around one video, for inference and training.

Token ids contain one VIDEO_PLACEHOLDER where the visual tokens go.
"""

from xcomp_jax.text.chatml import (
    IGNORE,
    VIDEO_MARK,
    VIDEO_PLACEHOLDER,
    ChatIds,
    Turn,
    VideoPosition,
    encode,
    encode_text,
    first_conv_length,
    split_at_video,
)
from xcomp_jax.text.inference_prompt import (
    answer_text,
    inference_ids,
    inference_parts,
    question_parts,
)
from xcomp_jax.text.training_prompt import (
    as_inference_turns,
    labels_of,
    training_example,
    training_turns,
)

__all__ = [
    "IGNORE",
    "VIDEO_MARK",
    "VIDEO_PLACEHOLDER",
    "ChatIds",
    "Turn",
    "VideoPosition",
    "answer_text",
    "as_inference_turns",
    "encode",
    "encode_text",
    "first_conv_length",
    "inference_ids",
    "inference_parts",
    "labels_of",
    "question_parts",
    "split_at_video",
    "training_example",
    "training_turns",
]
