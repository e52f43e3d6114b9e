"""Writes botocore.tsv: what Amazon's own client sends for every operation of the S3 API.

Run with a Python that has botocore:  python record_botocore.py > botocore.tsv
Each line: operation, method, target, then the headers that can decide something. Nothing is sent: requests are caught before.
"""

import datetime
import re

import botocore
import botocore.session
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.config import Config

# WriteGetObjectResponse is for Lambda functions and is refused; ListDirectoryBuckets differs from ListBuckets by its host only.
LEFT_OUT = {"WriteGetObjectResponse", "ListDirectoryBuckets"}
VALUES = {
    "AnnotationName": "note",
    "Bucket": "raw",
    "CopySource": "raw/in/a b+c",
    "Id": "id",
    "KMSKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/k",
    "Key": "in/a b+c",
    "ObjectLockRetainUntilDate": datetime.datetime(2027, 1, 1),
    "Prefix": "in/",
    "RenameSource": "raw/in/a",
}
# The client refuses these itself, or they stand for headers of their own.
HEADERS_LEFT_OUT = {"ContentLength", "ContentMD5", "SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5",
                    "CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey", "CopySourceSSECustomerKeyMD5",
                    "ObjectLockEventHoldStatus"}


def value(shape, name):
    if name in VALUES:
        return VALUES[name]
    if shape.type_name == "structure":
        members = shape.required_members or list(shape.members)[:1]
        return {member: value(shape.members[member], member) for member in members}
    if shape.type_name == "list":
        return [value(shape.member, name)]
    plain = {"string": shape.enum[0] if getattr(shape, "enum", None) else "x", "integer": 1, "long": 1, "boolean": True,
             "timestamp": datetime.datetime(2026, 11, 21), "blob": b"x", "map": {"k": "v"}}
    return plain[shape.type_name]


def parameters(operation, locations):
    shape = operation.input_shape
    members = shape.members.items() if shape else []
    return {
        name: value(member, name)
        for name, member in members
        if name in shape.required_members
        or (member.serialization.get("location") in locations and name not in HEADERS_LEFT_OUT
            and "Hold" not in name and "Checksum" not in name)
    }


def is_deciding(name):
    left_out = ("x-amz-date", "x-amz-content-sha256", "x-amz-checksum-crc32")
    return (name.startswith("x-amz-") and name not in left_out) or name in ("if-match", "if-none-match", "content-encoding")


def main():
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    caught = []

    def catch(request, **_):
        caught.append(request)
        raw = type("Raw", (), {"stream": lambda *_: iter([b""])})()
        return AWSResponse(request.url, 500, {}, raw)

    def client(signature):
        config = Config(signature_version=signature, retries={"max_attempts": 0}, s3={"addressing_style": "path"})
        made = session.create_client("s3", endpoint_url="http://localhost", region_name="eu-west-1", config=config)
        made.meta.events.register("before-send.s3.*", catch)
        return made

    v4, v2 = client("s3v4"), client("s3")
    print(f"# botocore {botocore.__version__}, by record_botocore.py")
    lines = {}
    for name in sorted(set(v4.meta.service_model.operation_names) - LEFT_OUT):
        operation = v4.meta.service_model.operation_model(name)
        for locations in ((), ("querystring",), ("header", "headers")):
            given = parameters(operation, locations)
            caught.clear()
            try:
                getattr(v4, xform_name(name))(**given)
            except Exception:  # The caught request has no answer that the client could read.
                assert caught, name
            request = caught[0]
            headers = ((key.lower(), text.decode() if isinstance(text, bytes) else text) for key, text in request.headers.items())
            fields = sorted(f"{key}: {text}" for key, text in headers if is_deciding(key))
            lines["\t".join([name, request.method, request.url.removeprefix("http://localhost"), *fields])] = None
        if name in ("GetObject", "PutObject", "CopyObject", "UploadPart", "ListObjectsV2", "DeleteObject", "HeadObject"):
            for presigner in (v4, v2):
                if presigner is v4 and name == "CopyObject":
                    continue  # Its source stays a header, which goes with the URL.
                url = presigner.generate_presigned_url(xform_name(name), given)
                url = re.sub(r"(Signature|X-Amz-Date|Expires)=[^&]*", r"\1=0", url)
                lines["\t".join([name, operation.http["method"], url.removeprefix("http://localhost")])] = None
    print("\n".join(lines))


main()
