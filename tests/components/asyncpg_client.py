"""asyncpg with its pool of one connection, told what to do: see psycopg_client.py for order and results.

Each step takes the connection from the pool and gives it back, which resets the session.
"""

import asyncio
import json
import sys

import asyncpg


def told(error: Exception) -> dict:
    return {
        "sqlstate": getattr(error, "sqlstate", None),
        "message": getattr(error, "message", None) or str(error),
        "detail": getattr(error, "detail", None),
        "kind": type(error).__name__,
    }


def plain(rows) -> list:
    return [[None if value is None else str(value) for value in row] for row in rows]


async def fetch(connection, step):
    return {"rows": plain(await connection.fetch(step["sql"], *step.get("params", [])))}


async def execute(connection, step):
    return {"tag": await connection.execute(step["sql"], *step.get("params", []))}


async def executemany(connection, step):
    await connection.executemany(step["sql"], step["params"])
    return {}


async def copy_in(connection, step):
    schema, table = step["table"]
    records = [tuple(row) for row in step["rows"]]
    tag = await connection.copy_records_to_table(table, schema_name=schema, columns=step["columns"], records=records)
    return {"tag": tag}


async def copy_out(connection, step):
    data = bytearray()

    async def keep(chunk):
        data.extend(chunk)

    tag = await connection.copy_from_query(step["sql"], output=keep)
    return {"tag": tag, "text": data.decode()}


async def cursor(connection, step):
    async with connection.transaction():
        return {"rows": plain([row async for row in connection.cursor(step["sql"], prefetch=2)])}


async def transaction(connection, step):
    async with connection.transaction():
        return {"steps": [await run(connection, inner) for inner in step["steps"]]}


async def timeout(connection, step):
    """A statement that asyncpg itself cancels."""
    try:
        await connection.fetch(step["sql"], timeout=0.5)
    except asyncio.TimeoutError:
        return {"timeout": True}
    return {"timeout": False}


STEPS = {step.__name__: step for step in (fetch, execute, executemany, copy_in, copy_out, cursor, transaction, timeout)}


async def run(connection, step) -> dict:
    try:
        return await STEPS[step["do"]](connection, step)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        return {"error": told(error)}


async def main() -> None:
    order = json.load(sys.stdin)
    results = []
    try:
        pool = await asyncpg.create_pool(min_size=1, max_size=1, ssl=False, **order["connect"])
    except (asyncpg.PostgresError, OSError) as error:
        print(json.dumps({"connect": told(error)}))
        return
    async with pool:
        for step in order["steps"]:
            async with pool.acquire() as connection:
                results.append(await run(connection, step))
    print(json.dumps(results))


if __name__ == "__main__":
    asyncio.run(main())
