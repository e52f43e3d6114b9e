"""A gRPC echo server of every streaming kind, cleartext HTTP/2, without generated code.

Prints {"port": N} when it listens and runs until its standard input closes. Messages are plain bytes.
/echo.Echo/Unary, /ClientStream (joins with ","), /ServerStream (splits at ","), /Bidi (each back as it
comes), /Fail (INVALID_ARGUMENT after one message). Trailing metadata `calls` counts the calls so far.
"""

import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

CALLS = itertools.count(1)


def counted(context) -> None:
    context.set_trailing_metadata((("calls", str(next(CALLS))),))


def unary(request, context):
    counted(context)
    return request


def client_stream(requests, context):
    counted(context)
    return b",".join(requests)


def server_stream(request, context):
    counted(context)
    yield from request.split(b",")


def bidi(requests, context):
    counted(context)
    yield from requests


def fail(request, context):
    counted(context)
    yield request
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "as asked")


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_stream_rpc_method_handler(fail),
}


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
