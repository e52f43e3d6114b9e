"""Fails when a tracked file looks like a secret. What is tracked is what can be pushed."""

import re
import subprocess
import sys

NAMES = re.compile(r"(\.(key|p12|pfx|jks|keystore)$|(^|/)(id_(rsa|ecdsa|ed25519)|\.netrc|\.npmrc|\.env)$)")
CONTENTS = {
    # The body is asked for too, so that code may name the header.
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+(?:[A-Za-z0-9+/=]{40,}\s+)+"),
    "a private key on one line": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\\n[A-Za-z0-9+/=]{40,}"),
    # Keys that end in EXAMPLE are those of AWS' own documentation.
    "an AWS access key": re.compile(rb"\b(?:AKIA|ASIA)(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}\b"),
}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True).stdout
    return [name for name in listed.decode().split("\0") if name]


def main() -> int:
    names = tracked()
    if not names:
        print("secrets: git lists no file: not a clone?", file=sys.stderr)
        return 1
    found = 0
    for name in names:
        if NAMES.search(name):
            print(f"{name}: a file of this name is not committed", file=sys.stderr)
            found += 1
        try:
            with open(name, "rb") as file:
                content = file.read()
        except (FileNotFoundError, IsADirectoryError):
            continue  # deleted but not yet staged, or a submodule
        for what, pattern in CONTENTS.items():
            if pattern.search(content):
                print(f"{name}: holds {what}", file=sys.stderr)
                found += 1
    print(f"secrets: {len(names)} tracked files, {found} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
