"""`xcomp demo`: serves the demo checkpoint and its videos."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import add_cache_dir
from xcomp_jax.cli.serve import check_packages
from xcomp_jax.terminal.values import whole_number

if TYPE_CHECKING:
    from xcomp_jax.serving.services import Services

DESCRIPTION = """Serves a page for the browser, with a toy that ships with the package and three
generated videos. Needs no download and no accelerator. Uploads and what is computed are
deleted when the demo ends."""

EXAMPLES = """examples:
  xcomp demo
  xcomp demo --port 0
"""

NOTE = (
    "This demo is a toy of 0.3 million parameters, trained in minutes on a CPU. It knows only the "
    "questions above and videos like these."
)
MODEL = "xcomp-demo"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "demo",
        help="try a toy in the browser, without weights",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=8000,
        metavar="N",
        help="port to listen on, on this machine only; 0 takes a free one (default: 8000)",
    )
    add_cache_dir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves the demo until a signal."""
    check_packages()
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.inference.open_demo import open_demo
    from xcomp_jax.serving.server import run_server
    from xcomp_jax.serving.services import Services
    from xcomp_jax.serving.settings import ServingConfig
    from xcomp_jax.token_store import TokenStore

    use_compilation_cache(options.cache_dir.expanduser())
    with tempfile.TemporaryDirectory(prefix="xcomp-demo-") as folder:
        config = ServingConfig(data=Path(folder), port=options.port, model=MODEL, note=NOTE)
        store = TokenStore(Path(folder) / "tokens")
        services = Services.create(config, open_demo(), store)
        add_examples(services)
        run_server(services, started=announce)
    return 0


def add_examples(services: Services) -> None:
    """Adds the demo's videos, which are watched at once, and their questions."""
    from xcomp_jax.demo import demo_videos
    from xcomp_jax.serving.frame_request import FrameRequest
    from xcomp_jax.serving.video import Source

    for position, demo in enumerate(demo_videos()):
        source = Source(identity=demo.path.name, path=demo.path, name=demo.title)
        video = services.library.add(source, FrameRequest(), None, demo.title)
        video.created_at -= position  # the list is ordered by age, newest first
        questions = [question.text for question in demo.questions]
        services.examples.append({"video": video.id, "questions": questions})


def announce(url: str) -> None:
    """Prints the address, and questions to begin with."""
    from xcomp_jax.demo import demo_videos

    print(f"Open {url} in a browser; Ctrl-C ends the demo. Questions to ask:", flush=True)
    for question in demo_videos()[0].questions:
        print(f"  {question.text}", flush=True)
