"""An S3 server that is not ours: moto, with signatures and IAM policies checked.

Prints one JSON line when it listens, {"port", "access_key", "secret_key", "reader_access_key",
"reader_secret_key"}, and runs until its standard input closes. The first user may do everything, the
second may only read: what the store itself refuses can be told apart from what portcullis refuses.
"""

import json
import os
import sys
from urllib.parse import parse_qs, urlsplit

# By default moto takes any signature. The first calls are those below that make the users.
BOOTSTRAP_CALLS = 6
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(BOOTSTRAP_CALLS)
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")

import boto3  # noqa: E402
from botocore.auth import S3SigV4QueryAuth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from moto.iam import access_control  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402


class S3Request(access_control.S3IAMRequest):
    """What moto checks, and presigned URLs too: moto itself answers 500 to one while it checks signatures."""

    def __init__(self, *, path: str, headers, **rest):
        query = {key: values[0] for key, values in parse_qs(urlsplit(path).query).items()}
        self.signed_at = query.get("X-Amz-Date")
        self.presigned = "X-Amz-Signature" in query
        if self.presigned:
            headers = dict(headers.items())
            headers["Authorization"] = (
                f"AWS4-HMAC-SHA256 Credential={query['X-Amz-Credential']}, "
                f"SignedHeaders={query['X-Amz-SignedHeaders']}, Signature={query['X-Amz-Signature']}"
            )
            path = path.replace("&X-Amz-Signature=" + query["X-Amz-Signature"], "")
        super().__init__(path=path, headers=headers, **rest)

    def _create_auth(self, credentials):
        if not self.presigned:
            return super()._create_auth(credentials)
        return S3SigV4QueryAuth(credentials, self._service, self._region)

    def _create_aws_request(self) -> AWSRequest:
        if not self.presigned:
            return super()._create_aws_request()
        signed = self._get_string_between("SignedHeaders=", ",", self._headers["Authorization"]).split(";")
        headers = self._create_headers_for_aws_request(signed, self._headers)
        request = AWSRequest(method=self._method, url=self._path, headers=headers)
        request.context["timestamp"] = self.signed_at
        return request


access_control.S3IAMRequest = S3Request


def user(iam, name: str, actions: str) -> tuple[str, str]:
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    iam = boto3.client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="bootstrap",
        aws_secret_access_key="bootstrap",
    )
    access_key, secret_key = user(iam, "everything", "s3:*")
    reader_access_key, reader_secret_key = user(iam, "reader", "s3:Get*")
    announced = {
        "port": port,
        "access_key": access_key,
        "secret_key": secret_key,
        "reader_access_key": reader_access_key,
        "reader_secret_key": reader_secret_key,
    }
    print(json.dumps(announced), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
