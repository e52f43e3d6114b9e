"""Asks a SPIFFE Workload API everything that it can be asked, with the client of the SPIFFE project for Python.

workload_api_client.py ADDRESS AUDIENCE prints one JSON object: `svids` (ID, whether it verifies, seconds left), `hints`, `bundles` (trust
domain: number of authorities), `jwt` (ID, audience, checked here with the JWT bundle, and by the server), `refused` (status without metadata).
"""

import json
import sys
from datetime import datetime, timezone

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe import JwtSvid, TrustDomain, WorkloadApiClient
from spiffe._proto import workload_pb2, workload_pb2_grpc

METADATA = (("workload.spiffe.io", "true"),)


def is_issued(svid, context) -> bool:
    """Whether an authority of the SVID's own trust domain signed it, and the key is its key."""
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    for authority in bundle.x509_authorities:
        try:
            svid.leaf.verify_directly_issued_by(authority)
        except Exception:  # noqa: BLE001: another authority's
            continue
        return svid.private_key.public_key() == svid.leaf.public_key()
    return False


def refused(stub, method: str, request) -> str:
    """The status of a call without the security metadata."""
    try:
        answer = getattr(stub, method)(request, timeout=10)
        list(answer) if hasattr(answer, "__iter__") else answer
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def main() -> None:
    address, audience = sys.argv[1:]
    client = WorkloadApiClient(address)
    context = client.fetch_x509_context()
    now = datetime.now(timezone.utc)
    svids = [
        {
            "id": str(svid.spiffe_id),
            "is_issued": is_issued(svid, context),
            "seconds_left": int((svid.leaf.not_valid_after_utc - now).total_seconds()),
            "is_p256": isinstance(svid.private_key.curve, ec.SECP256R1),
        }
        for svid in context.x509_svids
    ]
    bundles = {str(one.trust_domain): len(one.x509_authorities) for one in client.fetch_x509_bundles().bundles}

    token = client.fetch_jwt_svid(audience={audience})
    jwt_bundles = client.fetch_jwt_bundles()
    own = jwt_bundles.get_bundle_for_trust_domain(TrustDomain(str(token.spiffe_id.trust_domain)))
    checked = JwtSvid.parse_and_validate(token.token, own, {audience})
    jwt = {
        "id": str(checked.spiffe_id),
        "audience": sorted(checked.audience),
        "validated": str(client.validate_jwt_svid(token.token, audience).spiffe_id),
        "bundles": sorted(str(one.trust_domain) for one in jwt_bundles.bundles),
    }
    try:
        client.validate_jwt_svid(token.token, "somebody-else")
        jwt["for_another_audience"] = "valid"
    except Exception as error:  # noqa: BLE001: it says why
        jwt["for_another_audience"] = type(error).__name__

    with grpc.insecure_channel(address.replace("unix:///", "unix:/")) as channel:
        stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
        message = next(stub.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=METADATA, timeout=10))
        hints = [svid.hint for svid in message.svids]
        without = {
            "FetchX509SVID": refused(stub, "FetchX509SVID", workload_pb2.X509SVIDRequest()),
            "FetchX509Bundles": refused(stub, "FetchX509Bundles", workload_pb2.X509BundlesRequest()),
            "FetchJWTSVID": refused(stub, "FetchJWTSVID", workload_pb2.JWTSVIDRequest(audience=[audience])),
            "FetchJWTBundles": refused(stub, "FetchJWTBundles", workload_pb2.JWTBundlesRequest()),
            "ValidateJWTSVID": refused(stub, "ValidateJWTSVID", workload_pb2.ValidateJWTSVIDRequest()),
        }
    print(json.dumps({"svids": svids, "hints": hints, "bundles": bundles, "jwt": jwt, "refused": without}))


if __name__ == "__main__":
    main()
