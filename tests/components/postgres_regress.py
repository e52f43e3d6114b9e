"""Runs PostgreSQL's own regression SQL twice, directly and through a proxy, and tells which files come out differently.

    postgres_regress.py --source DIR --direct HOST:PORT --through HOST:PORT --user ROLE --out DIR [--only a,b]

Both servers are fresh and alike, with an empty database `regression`. The files run in the order of PostgreSQL's own
schedule, one after the other, each in a psql of its own. Writes `OUT/SIDE/FILE.out` for each file, `OUT/FILE.diff` for each
that differs, and one JSON object to standard output: the files that ran, those that differ with the number of lines that do, those that
hung, and how many seconds each took on either side. psql shows the SQLSTATE of each error: lines that differ only in the words of
an error, with the same SQLSTATE on both sides, are no lines that differ.
"""
import argparse
import concurrent.futures
import difflib
import json
import os
import re
import subprocess
import time

PSQL = ["/usr/lib/postgresql/15/bin/psql", "-X", "-a", "-q", "-d", "regression", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on",
        "-v", "VERBOSITY=verbose"]
LONGEST = 240  # seconds for one file


def schedule(source):
    with open(os.path.join(source, "parallel_schedule"), encoding="utf-8") as lines:
        return [test for line in lines if line.startswith("test:") for test in line[5:].split()]


def environment(address, user, source, build):
    """As pg_regress sets it (src/test/regress/pg_regress.c, initialize_environment)."""
    host, port = address.rsplit(":", 1)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG") and not key.startswith("LC_")}
    return kept | {
        "PGHOST": host, "PGPORT": port, "PGUSER": user, "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY",
        "PGOPTIONS": "-c intervalstyle=postgres_verbose", "LC_ALL": "C", "PGSSLMODE": "disable",
        "PG_ABS_SRCDIR": source, "PG_ABS_BUILDDIR": build, "PG_LIBDIR": "/nonexistent", "PG_DLSUFFIX": ".so",
    }


def run(side, address, arguments, tests):
    """What psql wrote for each file, and how long it took."""
    build = os.path.join(arguments.out, side)
    # The server writes there too, as another user.
    for folder in (build, os.path.join(build, "results")):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
    base = environment(address, arguments.user, arguments.source, build)
    wrote, took = {}, {}
    for test in tests:
        with open(os.path.join(arguments.source, "sql", test + ".sql"), "rb") as sql:
            began = time.monotonic()
            try:
                done = subprocess.run(PSQL, stdin=sql, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                      env=base | {"PGAPPNAME": "pg_regress/" + test}, timeout=LONGEST)
                wrote[test] = done.stdout.replace(build.encode(), b"BUILD")
            except subprocess.TimeoutExpired as hung:
                wrote[test] = (hung.stdout or b"") + b"\nHUNG\n"
            with open(os.path.join(build, test + ".out"), "wb") as out:
                out.write(wrote[test])
            took[test] = round(time.monotonic() - began, 2)
    return wrote, took


def lines(text):
    """Without the places in the server's own source and the numbers of schemas for temporary tables."""
    every = re.sub(r"pg_temp_[0-9]+", "pg_temp_N", text.decode("utf-8", "backslashreplace")).splitlines()
    return [line for line in every if not line.startswith("LOCATION:  ")]


ERROR = re.compile(r"((?:psql:.*: )?(?:ERROR|FATAL):  [0-9A-Z]{5}): ")
OF_AN_ERROR = re.compile(r"LINE [0-9]+: | *\^$|DETAIL:  |HINT:  |(SCHEMA|TABLE|COLUMN|DATATYPE|CONSTRAINT) NAME:  ")


def wordless(every):
    """Errors as their SQLSTATE."""
    kept, within = [], False
    for line in every:
        error = ERROR.match(line)
        within = bool(error) or (within and bool(OF_AN_ERROR.match(line)))
        if error:
            kept.append(error[1])
        elif not within:
            kept.append(line)
    return kept


def main():
    parser = argparse.ArgumentParser()
    for option in ("--source", "--direct", "--through", "--user", "--out"):
        parser.add_argument(option, required=True)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    tests = schedule(arguments.source)
    if arguments.only:
        tests = [test for test in tests if test in arguments.only.split(",")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, side, getattr(arguments, side), arguments, tests) for side in ("direct", "through")]
        (direct, direct_took), (through, through_took) = (side.result() for side in both)
    differ, hung = {}, []
    for test in tests:
        if through[test].endswith(b"\nHUNG\n"):
            hung.append(test)
        sides = lines(direct[test]), lines(through[test])
        if sides[0] == sides[1]:
            continue
        write_diff(arguments.out, test + ".words.diff", *sides)
        differ[test] = write_diff(arguments.out, test + ".diff", *map(wordless, sides))
    took = {test: [direct_took[test], through_took[test]] for test in tests}
    print(json.dumps({"ran": tests, "differ": differ, "hung": hung, "took": took}))


def write_diff(folder, name, direct, through):
    """How many lines differ."""
    found = list(difflib.unified_diff(direct, through, "direct", "through", lineterm="", n=3))
    with open(os.path.join(folder, name), "w", encoding="utf-8") as diff:
        diff.write("\n".join(found) + "\n")
    return sum(1 for line in found[2:] if line[:1] in "+-")


if __name__ == "__main__":
    main()
