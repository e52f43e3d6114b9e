"""boto3, told what to do: reads one JSON object on standard input and prints one JSON array.

    {"endpoint": "http://127.0.0.1:9001", "access_key": "…", "secret_key": "…",
     "addressing": "path" | "virtual", "resolve": ["s3.example"],
     "config": {"request_checksum_calculation": "when_required"},      further botocore settings
     "steps": [{"call": "put_object", "arguments": {"Bucket": "raw", "Key": "a", "Body": "text"}}, …]}

A step's `call` is a method of boto3's S3 client, or one of:
    upload    {"Bucket", "Key", "bytes", "part_bytes"}   random bytes by multipart; the result has their sha256
    download  {"Bucket", "Key", "part_bytes"}            the result has length and sha256
    presigned {"method": "get_object", "Params": {…}, "body": "…", "headers": {…}}
              signs a URL and calls it without boto3

Each result is {"ok": true, "status": 200, …} or {"ok": false, "status": 403, "code": "AccessDenied",
"message": "…", "decision": "…"}. A failed step does not end the run.
"""

import hashlib
import io
import json
import random
import sys
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from resolve import resolve_to_loopback


def client_of(order: dict):
    config = Config(
        # Else presigned URLs of us-east-1 are signed the old way (SigV2), which S3 itself refuses in newer regions.
        signature_version="s3v4",
        s3={"addressing_style": order.get("addressing", "path")},
        # A test counts requests: what is denied is asked once.
        retries={"max_attempts": 1, "mode": "standard"},
        connect_timeout=10,
        read_timeout=60,
        proxies={},
        **order.get("config", {}),
    )
    return boto3.client(
        "s3",
        endpoint_url=order["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=order["access_key"],
        aws_secret_access_key=order["secret_key"],
        config=config,
    )


def transfer(arguments: dict) -> TransferConfig:
    part = arguments.get("part_bytes", 8 << 20)
    return TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=4)


def upload(client, arguments: dict) -> dict:
    content = random.Random(arguments["Key"]).randbytes(arguments["bytes"])
    client.upload_fileobj(
        io.BytesIO(content), arguments["Bucket"], arguments["Key"],
        ExtraArgs=arguments.get("ExtraArgs"), Config=transfer(arguments),
    )
    return {"sha256": hashlib.sha256(content).hexdigest()}


def download(client, arguments: dict) -> dict:
    content = io.BytesIO()
    client.download_fileobj(arguments["Bucket"], arguments["Key"], content, Config=transfer(arguments))
    return {"bytes": len(content.getvalue()), "sha256": hashlib.sha256(content.getvalue()).hexdigest()}


def presigned(client, arguments: dict) -> dict:
    method = {"get": "GET", "head": "HEAD", "put": "PUT", "delete": "DELETE"}[arguments["method"].split("_")[0]]
    url = client.generate_presigned_url(arguments["method"], Params=arguments["Params"], ExpiresIn=300)
    body = arguments.get("body")
    request = urllib.request.Request(
        url, data=None if body is None else body.encode(), method=method, headers=arguments.get("headers", {})
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return {"status": answer.status, "body": answer.read().decode(errors="replace"), "url": url}
    except urllib.error.HTTPError as refused:
        body = refused.read().decode(errors="replace")
        decision = refused.headers.get("x-portcullis-decision")
        code = body.partition("<Code>")[2].partition("</Code>")[0]
        return {"ok": False, "status": refused.code, "code": code, "body": body, "decision": decision, "url": url}


OWN_CALLS = {"upload": upload, "download": download, "presigned": presigned}


def plain(value):
    """What JSON can hold of a boto3 answer; a streamed body is read."""
    if hasattr(value, "read"):
        return value.read().decode(errors="replace")
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def run(client, step: dict) -> dict:
    arguments = step.get("arguments", {})
    try:
        if step["call"] in OWN_CALLS:
            return {"ok": True, "status": 200, **OWN_CALLS[step["call"]](client, arguments)}
        answer = getattr(client, step["call"])(**arguments)
        status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
        return {"ok": True, "status": status, **plain(answer)}
    except ClientError as refused:
        metadata = refused.response["ResponseMetadata"]
        return {
            "ok": False,
            "status": metadata.get("HTTPStatusCode"),
            "code": refused.response["Error"]["Code"],
            "message": refused.response["Error"].get("Message"),
            "request_id": metadata.get("RequestId"),
            "decision": metadata.get("HTTPHeaders", {}).get("x-portcullis-decision"),
        }
    except (BotoCoreError, OSError) as failed:
        return {"ok": False, "status": None, "code": type(failed).__name__, "message": str(failed)}


def main() -> None:
    order = json.load(sys.stdin)
    resolve_to_loopback(order.get("resolve", []))
    client = client_of(order)
    print(json.dumps([run(client, step) for step in order["steps"]]))


if __name__ == "__main__":
    main()
