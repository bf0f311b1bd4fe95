"""Generates Python stubs from the committed contract, with protoc as grpcio-tools ships it."""

import pathlib
import sys

from grpc_tools import protoc


def generate(proto_root: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the modules of governance/v1 into `out` and makes them importable."""
    out.mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"-I{proto_root}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            "governance/v1/governance.proto",
        ]
    )
    if status != 0:
        sys.exit(f"protoc failed with status {status}")
    sys.path.insert(0, str(out))
