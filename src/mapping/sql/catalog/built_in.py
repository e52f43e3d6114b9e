"""Writes built_in.tsv: what a PostgreSQL 15 server answers to Catalog::QUERIES about what comes with it, in the form of catalogue snapshots.

    PGHOST=… PGUSER=… python3 built_in.py
"""

import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).parent
# Who may read the catalogue and what the database is called are no matter of what comes with the server.
LEFT_OUT = {"Database"}


def queries():
    text = (HERE / "queries.rs").read_text()
    text = text[text.index("QUERIES:"):]
    for reading, body in re.findall(r'Reading::(\w+),\s*"((?:[^"\\]|\\.|\\\n)*)"', text):
        yield reading, re.sub(r"\\\n\s*", "", body)


def main():
    with open(HERE / "built_in.tsv", "w") as out:
        out.write("# portcullis catalog 1\n")
        for reading, text in queries():
            if reading in LEFT_OUT:
                continue
            out.write(f"# {reading}\n")
            command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", "template1", "-c", f"COPY ({text} ORDER BY 1, 2) TO STDOUT"]
            out.write(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


main()
