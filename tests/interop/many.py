"""A plain `governance.v1` client that sends many messages over a connection that breaks.

Says on a line of its own when it wants something to go wrong (`cut`, `refuse`, ...), waits for a line
that says that it has, and prints what came of everything as one JSON object.
"""

import json
import pathlib
import sys
import tempfile
import time

import grpc

import client
import stubs

# Bytes of a request that is longer than any that a governance node takes.
ENDLESS = 32 * 1024 * 1024


def say(what: str) -> None:
    print(what, flush=True)
    sys.stdin.readline()


def main() -> None:
    options = client.arguments()
    with tempfile.TemporaryDirectory() as folder:
        stubs.generate(options.proto, pathlib.Path(folder))
        from governance.v1 import governance_pb2 as pb
        from governance.v1 import governance_pb2_grpc as rpc

        credentials = grpc.ssl_channel_credentials(
            root_certificates=options.ca.read_bytes(),
            private_key=options.key.read_bytes(),
            certificate_chain=options.certificate.read_bytes(),
        )
        with grpc.secure_channel(options.address, credentials) as channel:
            stub = rpc.GovernanceStreamStub(channel)
            report = deliver(stub, pb, options.messages)
            report.update(codes(channel))
    say(json.dumps(report))


def registered(stub, pb) -> client.Conversation:
    stream = client.Conversation(stub, pb)
    stream.send(node_registration=client.registration(pb))
    answer = stream.answer()
    assert answer.registration_ack.accepted, answer
    return stream


def pegin(pb, number: int):
    return pb.PeginNotification(
        btc_txid=f"{number:064x}",
        vout=0,
        amount=10_000 + number,
        evm_address="0x" + "ab" * 20,
        confirmations=6,
    )


def deliver(stub, pb, count: int) -> dict:
    stream = registered(stub, pb)
    streams = 1
    pending = {}
    for number in range(count):
        payload = pegin(pb, number)
        pending[stream.send(pegin_notification=payload)] = payload
    ids = list(pending)
    acknowledged = 0
    while pending:
        try:
            answer = stream.answer()
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            stream = again(stub, pb)
            streams += 1
            # What was not acknowledged is sent again, under the same id.
            for request_id, payload in pending.items():
                stream.send(request_id=request_id, pegin_notification=payload)
            continue
        assert answer.metadata.status == pb.STATUS_CODE_SUCCESS, answer
        del pending[answer.metadata.request_id]
        acknowledged += 1
        if acknowledged == count // 2:
            say("cut")
    report = {"ids": ids, "acknowledged": acknowledged, "streams": streams}
    say("refuse")
    report["refused"] = refused(stream, pb, count)
    say("refuse for good")
    report["refused_for_good"] = refused(stream, pb, count + 1)
    say("behave")
    stream.send(pegin_notification=pegin(pb, count + 2))
    report["then"] = pb.StatusCode.Name(stream.answer().metadata.status)
    stream.close()
    return report


def again(stub, pb) -> client.Conversation:
    """Another stream; the channel connects by itself."""
    give_up_at = time.monotonic() + 20
    while True:
        try:
            return registered(stub, pb)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up_at:
                raise


def refused(stream, pb, number: int) -> list:
    stream.send(pegin_notification=pegin(pb, number))
    answer = stream.answer()
    error = answer.error_response
    return [
        pb.StatusCode.Name(answer.metadata.status),
        pb.ErrorCode.Name(error.error_code),
        error.retry_info.retry_after,
    ]


def codes(channel) -> dict:
    """What calls come to that no generated client makes."""

    def call(method: str, request: bytes) -> str:
        path = f"/governance.v1.GovernanceStream/{method}"
        try:
            channel.unary_unary(path)(request, timeout=20)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    return {
        "unknown_call": call("Nonsense", b""),
        "garbled_call": call("Health", b"\xff\xff\xff"),
        "endless_call": call("Health", b"\x0a" + b"\x00" * ENDLESS),
    }


if __name__ == "__main__":
    main()
