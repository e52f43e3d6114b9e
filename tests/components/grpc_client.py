"""A gRPC client: grpc_client.py HOST:PORT KIND MESSAGE… prints one JSON object.

KIND is unary, client-stream, server-stream, bidi or fail. Bidi waits for each answer before it sends
the next message, so it only ends where both directions stream. Prints {"status": "OK", "messages": […],
"trailers": {…}} or {"status": "PERMISSION_DENIED", "details": "…", "messages": [what came before], …}.
"""

import json
import queue
import sys

import grpc

TIMEOUT_SECONDS = 20


def pingpong(call_with, messages: list[bytes], answers: list[bytes]):
    """Sends a message, waits for its answer, sends the next."""
    outgoing: queue.Queue = queue.Queue()
    call = call_with(iter(outgoing.get, None))
    for message in messages:
        outgoing.put(message)
        answers.append(next(call))
    outgoing.put(None)
    answers.extend(call)
    return call


def main() -> None:
    target, kind, *texts = sys.argv[1:]
    messages = [text.encode() for text in texts]
    answers: list[bytes] = []
    options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(target, options) as channel:
        try:
            if kind == "unary":
                answer, call = channel.unary_unary("/echo.Echo/Unary").with_call(messages[0], timeout=TIMEOUT_SECONDS)
                answers.append(answer)
            elif kind == "client-stream":
                method = channel.stream_unary("/echo.Echo/ClientStream")
                answer, call = method.with_call(iter(messages), timeout=TIMEOUT_SECONDS)
                answers.append(answer)
            elif kind in ("server-stream", "fail"):
                path = {"server-stream": "/echo.Echo/ServerStream", "fail": "/echo.Echo/Fail"}[kind]
                call = channel.unary_stream(path)(messages[0], timeout=TIMEOUT_SECONDS)
                for answer in call:
                    answers.append(answer)
            elif kind == "bidi":
                method = channel.stream_stream("/echo.Echo/Bidi")
                call = pingpong(lambda sent: method(sent, timeout=TIMEOUT_SECONDS), messages, answers)
            else:
                sys.exit(f"unknown kind `{kind}`")
            result = {"status": "OK", "details": "", "trailers": dict(call.trailing_metadata() or ())}
        except grpc.RpcError as refused:
            trailers = {key: str(value) for key, value in (refused.trailing_metadata() or ())}
            result = {"status": refused.code().name, "details": refused.details(), "trailers": trailers}
    result["messages"] = [answer.decode() for answer in answers]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
