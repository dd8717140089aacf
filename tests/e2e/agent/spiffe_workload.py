"""A workload that knows SPIFFE by somebody else's library, `spiffe`; run by a Python that has it.

spiffe_workload.py x509 ENDPOINT SECONDS    a JSON line for each certificate that it sees
spiffe_workload.py jwt ENDPOINT AUDIENCE    a JSON line: a token, validated here and there
"""

import json
import sys
import time

from spiffe import JwtSource, JwtSvid, WorkloadApiClient, X509Source


def follow(endpoint: str, seconds: float) -> None:
    """Print each new certificate; end with an error where the source ever has none."""
    with X509Source(socket_path=endpoint, timeout_in_seconds=20) as source:
        seen, until = None, time.monotonic() + seconds
        while time.monotonic() < until:
            context = source.get_x509_context()
            svid = context.default_svid
            if svid.leaf.serial_number != seen:
                seen = svid.leaf.serial_number
                bundle = context.x509_bundle_set.get_bundle_for_trust_domain(
                    svid.spiffe_id.trust_domain
                )
                line = {
                    "spiffe_id": str(svid.spiffe_id),
                    "serial": f"{seen:x}",
                    "chain": len(svid.cert_chain),
                    "authorities": len(bundle.x509_authorities),
                    "expires": svid.leaf.not_valid_after_utc.timestamp(),
                    "at": time.time(),  # noqa: TID251 - a program of its own
                }
                print(json.dumps(line), flush=True)  # noqa: T201 - what it is for
            time.sleep(0.05)


def tokens(endpoint: str, audience: str) -> None:
    """Get a token; validate it by the bundle and by the API."""
    with JwtSource(socket_path=endpoint, timeout_in_seconds=20) as source:
        svid = source.fetch_svid(audience={audience})
        bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        checked = JwtSvid.parse_and_validate(svid.token, bundle, {audience})
    client = WorkloadApiClient(endpoint)
    valid = client.validate_jwt_svid(svid.token, audience)
    try:
        client.validate_jwt_svid(svid.token, "somebody-else")
        refused = ""
    except Exception as error:  # noqa: BLE001 - whatever it is called, its text is looked at
        refused = str(error)
    client.close()
    line = {
        "spiffe_id": str(svid.spiffe_id),
        "checked": str(checked.spiffe_id),
        "valid": str(valid.spiffe_id),
        "refused": refused,
    }
    print(json.dumps(line), flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    if sys.argv[1] == "x509":
        follow(sys.argv[2], float(sys.argv[3]))
    else:
        tokens(sys.argv[2], sys.argv[3])
