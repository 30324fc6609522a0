"""Results through an S3 remote, on the loopback interface: uv run --group lab python tests/lab/s3.py

Starts an S3 server (moto), gives the toy pipeline a bucket as DVC's remote, and checks that results and the knowledge
of how they were made travel through it. Whatever it starts, it stops; nothing is left.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import loopback
import remote
from loopback import say

KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "results"


def main() -> int:
    """Returns 0 if all went well."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    loopback.stop_as_by_ctrl_c()
    if not (importlib.util.find_spec("dvc_s3") and importlib.util.find_spec("moto")):
        print("error: dvc-s3 or moto is missing here: uv run --group lab python tests/lab/s3.py", file=sys.stderr)
        return 1
    import boto3

    with tempfile.TemporaryDirectory(prefix="s3-") as temporary:
        folder = Path(temporary)
        say("starting an S3 server")
        with loopback.s3(folder / "s3") as address:
            session = boto3.Session(*KEYS.values())
            session.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
            toy = remote.toy_with(folder, f"s3://{BUCKET}/lab", KEYS, {"endpointurl": address})
            remote.check(toy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
