"""A SPIFFE Workload API on the stubs of the SPIFFE project for Python.

workload_api_server.py SOCKET FILE serves what the JSON in FILE says, and pushes it anew when FILE changes. It prints {"address": …} when it
listens and runs until its standard input closes. FILE: {"svids": [{"spiffe_id", "x509_svid", "x509_svid_key", "bundle", "hint"}],
"crl": […], "federated_bundles": {…}}, bytes in base64.
"""

import base64
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from spiffe._proto import workload_pb2, workload_pb2_grpc


def message(path: str) -> workload_pb2.X509SVIDResponse:
    with open(path, encoding="utf-8") as file:
        offer = json.load(file)
    answer = workload_pb2.X509SVIDResponse()
    for svid in offer["svids"]:
        answer.svids.add(
            spiffe_id=svid["spiffe_id"],
            x509_svid=base64.b64decode(svid["x509_svid"]),
            x509_svid_key=base64.b64decode(svid["x509_svid_key"]),
            bundle=base64.b64decode(svid["bundle"]),
            hint=svid.get("hint", ""),
        )
    answer.crl.extend(base64.b64decode(crl) for crl in offer.get("crl", []))
    for trust_domain, bundle in offer.get("federated_bundles", {}).items():
        answer.federated_bundles[trust_domain] = base64.b64decode(bundle)
    return answer


class Agent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    def __init__(self, path: str) -> None:
        self.path = path

    def FetchX509SVID(self, request, context):
        if ("workload.spiffe.io", "true") not in [(item.key, item.value) for item in context.invocation_metadata()]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        last = None
        while context.is_active():
            current = message(self.path)
            if current != last:
                yield current
                last = current
            time.sleep(0.02)


def main() -> None:
    socket, path = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(Agent(path), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print(json.dumps({"address": f"unix:{socket}"}), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.stop(grace=None)), daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
