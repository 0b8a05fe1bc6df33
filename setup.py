"""Package XComp-JAX; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

SERVE = [
    "fastapi>=0.115",
    "uvicorn>=0.34",
    "python-multipart>=0.0.18",
    "prometheus-client>=0.20",
]

setup(
    name="xcomp-jax",
    version="0.1.0",
    description="Extreme video-token compression for long-video language models, in JAX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # convert/, configs/ and launch/ are linked into the package, so that a wheel installs them as
    # xcomp_jax.convert etc. and adds no generic name. find_packages follows the links.
    packages=find_packages(include=["xcomp_jax", "xcomp_jax.*"]),
    package_data={
        "xcomp_jax.ops": ["block_sizes.json"],
        "xcomp_jax.demo": ["*.json", "*.mp4", "checkpoint/.*", "checkpoint/**/*"],
        "xcomp_jax.serving": ["page/*"],
    },
    install_requires=[
        "jax>=0.10,<0.12",
        "flax>=0.12",
        "optax>=0.2.8",
        # Shapes in signatures; only tests check them, with beartype.
        "jaxtyping>=0.3",
        "orbax-checkpoint>=0.12.8",
        "grain>=0.2.18",
        "tensorflow-datasets>=4.9.10",
        "transformers>=5.0",
        "jinja2",
        "ml-collections>=1.1",
        "imageio-ffmpeg>=0.6",
        "array-record>=0.8",
        "ml-dtypes>=0.5",
        "safetensors>=0.8",
        "pillow>=10",
        "matplotlib>=3.8",
        "tqdm",
        "pyyaml>=6",
        "scipy",
    ],
    extras_require={
        "test": [
            "beartype>=0.19",
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "ruff==0.17.5",
            "mypy>=1.13",
            "setuptools>=70",
            "pyarrow>=15",
            "tensorboardX>=2.6",
            "wandb>=0.18",
            *SERVE,
            # Clients and fuzzer of the server's tests.
            "openai>=1.50",
            "httpx>=0.27",
            "schemathesis>=4",
        ],
        "serve": SERVE,
        # Annotations of benchmarks in Parquet files.
        "evaluation": ["pyarrow>=15"],
        "tensorboard": ["tensorboardX>=2.6"],
        "wandb": ["wandb>=0.18"],
        "tpu": ["jax[tpu]>=0.10,<0.12"],
        "cuda": ["jax[cuda12]>=0.10,<0.12"],
    },
    entry_points={
        "console_scripts": ["xcomp=xcomp_jax.cli.main:main"],
        # Read by lmms-eval only, which brings PyTorch.
        "lmms_eval.models": ["xcomp_jax=xcomp_jax.evaluation.lmms_eval_manifest:manifest"],
    },
)
