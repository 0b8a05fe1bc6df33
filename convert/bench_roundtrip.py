"""Runs `xcomp_jax.launch.bench.convert_roundtrip` under its old name."""

if __name__ == "__main__":
    import sys

    from xcomp_jax.launch.bench.convert_roundtrip import main

    sys.exit(main())
