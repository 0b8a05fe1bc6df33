"""Define the environment variables that compiling for an absent device needs.

They take effect only when set before JAX is imported.
"""

from __future__ import annotations

# Several processes may load libtpu, since no device is touched; without ALLOW_MULTIPLE_LIBTPU_LOAD
# the second one fails on a lock file. The two TPU names keep libtpu from querying cloud metadata.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}
