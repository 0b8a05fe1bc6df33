"""`xcomp serve`: answers questions about videos over HTTP."""

from __future__ import annotations

import argparse
import re

from xcomp_jax.cli.arguments import (
    GIB,
    STORE,
    add_generation,
    add_model,
    add_quantization,
    add_selection,
    add_store,
    load_session,
)
from xcomp_jax.cli.checks import check_checkpoint, check_folder, check_options
from xcomp_jax.cli.model_name import model_name
from xcomp_jax.cli.serve_options import add_server, check_address, read_keys

DESCRIPTION = """Serves a model over HTTP in the schemas of OpenAI's API. A video is uploaded or
named once, encoded once, and can then be asked about any number of times. A page for the browser is
at /, the list of requests at /docs."""

EXAMPLES = """examples:
  xcomp serve --checkpoint checkpoints/xcomp-2b
  xcomp serve --checkpoint checkpoints/xcomp-2b --host 0.0.0.0 --api-key-file keys.txt
  curl http://127.0.0.1:8000/v1/files -F purpose=user_data -F file=@film.mp4
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_server(parser)
    add_model(parser)
    add_quantization(parser)
    add_generation(parser)
    add_selection(parser)
    add_store(parser, default=STORE)
    parser.set_defaults(run=run, max_damaged=None)


def run(options: argparse.Namespace) -> int:
    """Runs the command until a signal."""
    check_options(options)
    check_checkpoint(options)
    check_packages()
    return _serve(options)


def check_packages() -> None:
    """Raises ValueError if the packages of the server are not installed."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"the server needs the package {error.name}; install it with `pip install "
            "'xcomp-jax[serve]'`"
        ) from None


def _serve(options: argparse.Namespace) -> int:
    from xcomp_jax.serving.server import run_server
    from xcomp_jax.serving.services import Services
    from xcomp_jax.serving.settings import Limits, ServingConfig
    from xcomp_jax.serving.warm_up import buckets_up_to, warm_up
    from xcomp_jax.token_store import TokenStore

    limits = Limits(
        max_frames=options.max_frames,
        max_upload_bytes=options.max_upload_mib << 20,
        quota_bytes=int(options.quota_gib * GIB),
        max_waiting=options.max_waiting,
        max_parallel=options.max_parallel,
    )
    for folder in options.allow_folder:
        check_folder(folder, "--allow-folder ")
    keys = read_keys(options.api_key_file)
    check_address(options, keys)
    config = ServingConfig(
        data=options.data.expanduser(),
        host=options.host,
        port=options.port,
        keys=keys,
        allowed_hosts=tuple(options.allow_host),
        allowed_folders=tuple(folder.expanduser().resolve() for folder in options.allow_folder),
        allowed_domains=tuple(options.allow_domains),
        max_memory_bytes=int(options.max_memory * GIB),
        model=re.sub(r"[^\w./@-]+", "-", model_name(options)),
        limits=limits,
    )
    session = load_session(options)
    store = TokenStore(options.store.expanduser(), max_bytes=int((options.store_gib or 50) * GIB))
    services = Services.create(config, session, store)
    if options.warm_up:
        clip = session.config.vision.clip_frames
        warm_up(
            session,
            buckets_up_to(session.sampling.max_frames, clip)
            if options.warm_up == "all"
            else [-(-count // clip) * clip for count in options.warm_up],
        )
    run_server(services, started=lambda url: print(f"serving at {url}", flush=True))
    return 0
