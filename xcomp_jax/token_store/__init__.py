"""Visual tokens of videos on disk: the encoder sees a clip once, whatever is asked about it later.

    ROOT/videos/DIGEST/key.json               what the tokens follow from (`StoreKey`)
    ROOT/videos/DIGEST/<id>.array_record      a shard: a header, then one record a clip
    ROOT/videos/DIGEST/lock                   held shared while in use; its mtime is the last use
    ROOT/hashes/<path hash>.json              content hashes of videos that were hashed before

Any number of processes of one machine may read, write and evict at the same time, and may be
killed at any moment: a shard appears by one rename and never changes afterwards.
"""

from xcomp_jax.token_store.errors import TokenStoreError
from xcomp_jax.token_store.hashing import hash_encoder, hash_video
from xcomp_jax.token_store.keys import StoreKey
from xcomp_jax.token_store.store import StoredVideo, TokenStore
from xcomp_jax.token_store.video import VideoTokens

__all__ = [
    "StoreKey",
    "StoredVideo",
    "TokenStore",
    "TokenStoreError",
    "VideoTokens",
    "hash_encoder",
    "hash_video",
]
