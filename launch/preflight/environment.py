"""What must be in the environment before JAX is imported to compile for an absent machine."""

from __future__ import annotations

# A second process that loads libtpu would fail on a lock file; no device is ever touched. The two
# TPU names stop libtpu from looking for a cloud machine's description of itself.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}
