"""The AWS CLI with some names resolved to this machine: aws_cli.py NAME,NAME… ARGUMENTS OF aws."""

import sys

from awscli.clidriver import main

from resolve import resolve_to_loopback

if __name__ == "__main__":
    resolve_to_loopback([name for name in sys.argv[1].split(",") if name])
    sys.argv = ["aws", *sys.argv[2:]]
    sys.exit(main())
