"""A WebSocket client: websocket_client.py URL MESSAGE… prints {"messages": […], "binary_sha256": "…"}, or
{"status": 403, "headers": {…}, "body": "…"} when the upgrade is refused. `--binary N` sends N random bytes too."""

import argparse
import asyncio
import hashlib
import json
import random

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("messages", nargs="*")
    parser.add_argument("--binary", type=int, default=0)
    order = parser.parse_args()
    try:
        async with connect(order.url, proxy=None, open_timeout=20, max_size=64 << 20) as connection:
            result: dict = {"messages": []}
            for message in order.messages:
                await connection.send(message)
                result["messages"].append(await asyncio.wait_for(connection.recv(), 20))
            if order.binary:
                content = random.Random(0).randbytes(order.binary)
                await connection.send(content)
                answer = await asyncio.wait_for(connection.recv(), 60)
                result["binary_equal"] = answer == content
                result["binary_sha256"] = hashlib.sha256(answer).hexdigest()
    except InvalidStatus as refused:
        response = refused.response
        body = (response.body or b"").decode(errors="replace")
        result = {"status": response.status_code, "headers": dict(response.headers.raw_items()), "body": body}
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main())
