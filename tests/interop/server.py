"""A governance node that nobody here wrote: plain `governance.v1` and nothing else.

Prints the port it listens on, then one JSON line for every request it received.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

import stubs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", type=pathlib.Path, required=True)
    parser.add_argument("--ca", type=pathlib.Path, required=True)
    parser.add_argument("--certificate", type=pathlib.Path, required=True)
    parser.add_argument("--key", type=pathlib.Path, required=True)
    parser.add_argument(
        "--capabilities",
        choices=["plain", "unimplemented"],
        default="plain",
        help="answer GetCapabilities without our feature, or not at all",
    )
    parser.add_argument(
        "--silent",
        action="store_true",
        help="acknowledge nothing but registrations and heartbeats",
    )
    parser.add_argument(
        "--cut-after", type=int, default=0, help="end the first stream after so many requests"
    )
    parser.add_argument(
        "--answers",
        type=json.loads,
        default={},
        help="how a peg-in of this amount is answered when it comes first, by amount: "
        "{status}, {error, retry_after} or {grpc}",
    )
    return parser.parse_args()


def serve(options, pb, rpc) -> None:
    lock = threading.Lock()
    streams = [0]
    # What is left of the answers that were told.
    told = dict(options.answers)

    def report(**line) -> None:
        with lock:
            print(json.dumps(line), flush=True)

    class Governance(rpc.GovernanceStreamServicer):
        def Health(self, request, context):
            return pb.HealthResponse(status=pb.HEALTH_STATUS_HEALTHY, version="python", uptime=1)

        def GetCapabilities(self, request, context):
            if options.capabilities == "unimplemented":
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "not offered")
            return pb.CapabilitiesResponse(protocol_versions=["1.0"], features=["signing"])

        def Stream(self, requests, context):
            with lock:
                streams[0] += 1
                number = streams[0]
            for count, request in enumerate(requests, start=1):
                kind = request.WhichOneof("payload")
                report(
                    stream=number,
                    kind=kind,
                    request_id=request.metadata.request_id,
                    at_ms=time.monotonic_ns() // 1_000_000,
                )
                as_told = kind == "pegin_notification" and told.pop(
                    str(request.pegin_notification.amount), None
                )
                if not as_told:
                    yield from answers(request, kind)
                elif "grpc" not in as_told:
                    yield answer_as_told(request, as_told)
                elif as_told["grpc"] == "OK":
                    return
                else:
                    context.abort(grpc.StatusCode[as_told["grpc"]], "as it was told")
                if options.cut_after and number == 1 and count >= options.cut_after:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut on purpose")

    def answer(request, status=pb.STATUS_CODE_SUCCESS, **payload):
        metadata = pb.ResponseMetadata(
            request_id=request.metadata.request_id,
            timestamp=int(time.time()),
            node_id="python-governance",
            status=status,
        )
        return pb.StreamResponse(metadata=metadata, **payload)

    def answer_as_told(request, as_told):
        if "status" in as_told:
            return answer(request, status=as_told["status"])
        retry_info = None
        if "retry_after" in as_told:
            retry_info = pb.RetryInfo(retry_after=as_told["retry_after"], max_retries=3)
        return answer(
            request,
            status=pb.STATUS_CODE_ERROR,
            error_response=pb.ErrorResponse(
                error_code=as_told["error"],
                error_message="as it was told",
                retry_info=retry_info,
            ),
        )

    def answers(request, kind):
        if kind == "node_registration":
            yield answer(
                request,
                registration_ack=pb.NodeRegistrationAck(accepted=True, assigned_node_id="node"),
            )
        elif kind == "heartbeat":
            beat = request.heartbeat
            yield answer(
                request,
                heartbeat_ack=pb.HeartbeatAck(
                    original_timestamp=beat.timestamp,
                    ack_timestamp=int(time.time()),
                    sequence=beat.sequence,
                ),
            )
        elif kind == "signature_request":
            pending = pb.SignatureResponse(status=pb.SIGNATURE_STATUS_PENDING)
            yield answer(request, signature_response=pending)
            failed = pb.SignatureResponse(
                status=pb.SIGNATURE_STATUS_FAILED, failure_reason="this peer holds no keys"
            )
            yield answer(request, signature_response=failed)
        elif not options.silent:
            yield answer(request)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    rpc.add_GovernanceStreamServicer_to_server(Governance(), server)
    credentials = grpc.ssl_server_credentials(
        [(options.key.read_bytes(), options.certificate.read_bytes())],
        root_certificates=options.ca.read_bytes(),
        require_client_auth=True,
    )
    report(port=server.add_secure_port("127.0.0.1:0", credentials))
    server.start()
    # Ends with whoever started it.
    sys.stdin.read()
    server.stop(grace=None)


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        stubs.generate(options.proto, pathlib.Path(folder))
        from governance.v1 import governance_pb2 as pb
        from governance.v1 import governance_pb2_grpc as rpc

        serve(options, pb, rpc)


if __name__ == "__main__":
    main()
