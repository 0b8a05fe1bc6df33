"""Stores visual tokens of videos on disk, so that every clip is encoded only once.

    ROOT/videos/DIGEST/key.json               everything the tokens depend on (`StoreKey`)
    ROOT/videos/DIGEST/<id>.array_record      a shard: a header, then one record per clip
    ROOT/videos/DIGEST/lock                   locked while in use; its mtime is the last use
    ROOT/hashes/<path hash>.json              content hashes of videos hashed before
    ROOT/hashes/<path hash>.packets           packet lists of videos probed before

Any number of processes on one machine may read, write and evict at the same time, and may be killed
at any moment: a shard appears by a single rename and never changes afterwards.
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
