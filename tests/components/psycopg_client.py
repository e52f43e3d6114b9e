"""psycopg 3, told what to do: reads {"connect": {…}, "steps": […]} from standard input, prints one result a step.

A connection that fails prints {"connect": ERROR}. A step is {"do": NAME, …}; its result is what it returned, or
{"error": {"sqlstate": …, "message": …, "detail": …}}. `status` in each result is libpq's transaction status.
"""

import json
import sys
import threading

import psycopg
from psycopg import sql


def told(error: Exception) -> dict:
    diag = getattr(error, "diag", None)
    return {
        "sqlstate": getattr(error, "sqlstate", None) or (diag.sqlstate if diag else None),
        "message": (diag.message_primary if diag else None) or str(error),
        "detail": diag.message_detail if diag else None,
        "kind": type(error).__name__,
    }


def plain(rows) -> list:
    return [[None if value is None else str(value) for value in row] for row in rows]


def result(cursor) -> dict:
    sets = []
    while True:
        rows = plain(cursor.fetchall()) if cursor.description else None
        sets.append({"rows": rows, "tag": cursor.statusmessage})
        if not cursor.nextset():
            break
    return {**sets[-1], "sets": sets}


def execute(connection, step):
    with connection.cursor(binary=step.get("binary", False)) as cursor:
        cursor.execute(step["sql"], step.get("params"), prepare=step.get("prepare"))
        return result(cursor)


def executemany(connection, step):
    with connection.cursor() as cursor:
        cursor.executemany(step["sql"], step["params"])
        return {"count": cursor.rowcount}


def pipeline(connection, step):
    """What each statement before the first failed one gave, and the failure."""
    failed = None
    cursors = []
    try:
        with connection.pipeline() as pipe:
            try:
                for text, params in step["statements"]:
                    cursor = connection.cursor()
                    cursor.execute(text, params)
                    cursors.append(cursor)
                pipe.sync()
            except psycopg.Error as error:
                failed = told(error)
    except psycopg.Error as error:
        failed = failed or told(error)
    done = [cursor for cursor in cursors if cursor.statusmessage]
    results = {"results": [result(cursor) for cursor in done]}
    return {**results, "error": failed} if failed else results


def copy_in(connection, step):
    with connection.cursor() as cursor:
        with cursor.copy(step["sql"]) as copy:
            for row in step["rows"]:
                copy.write_row(row)
        return {"count": cursor.rowcount}


def copy_out(connection, step):
    with connection.cursor() as cursor, cursor.copy(step["sql"]) as copy:
        return {"rows": plain(copy.rows())}


def cursor(connection, step):
    """A named cursor of the server, read in batches."""
    with connection.transaction(), connection.cursor(name="portal of psycopg") as named:
        named.itersize = step.get("batch", 2)
        named.execute(step["sql"], step.get("params"))
        return {"rows": plain(named)}


def cancel(connection, step):
    timer = threading.Timer(0.5, connection.cancel_safe)
    timer.start()
    try:
        return execute(connection, step)
    finally:
        timer.join()


def transaction(connection, step):
    with connection.transaction():
        return {"steps": [run(connection, inner) for inner in step["steps"]]}


def identifiers(connection, step):
    """A statement whose names come as psycopg quotes them."""
    names = [sql.Identifier(*name) for name in step["names"]]
    return execute(connection, {"sql": sql.SQL(step["sql"]).format(*names)})


STEPS = {
    name.__name__: name
    for name in (execute, executemany, pipeline, copy_in, copy_out, cursor, cancel, transaction, identifiers)
}
STEPS["commit"] = lambda connection, _: connection.commit()
STEPS["rollback"] = lambda connection, _: connection.rollback()


def run(connection, step) -> dict:
    try:
        done = STEPS[step["do"]](connection, step) or {}
    except psycopg.Error as error:
        done = {"error": told(error)}
    done["status"] = connection.info.transaction_status.name
    return done


def main() -> None:
    order = json.load(sys.stdin)
    try:
        connection = psycopg.connect(**order["connect"])
    except psycopg.Error as error:
        print(json.dumps({"connect": told(error)}))
        return
    with connection:
        print(json.dumps([run(connection, step) for step in order["steps"]]))


if __name__ == "__main__":
    main()
