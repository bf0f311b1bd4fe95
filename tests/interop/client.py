"""A plain `governance.v1` client that nobody here generated: talks to a governance node of ours.

Registers, sends every kind of request, and prints what came back as one JSON object.
"""

import argparse
import json
import pathlib
import queue
import tempfile
import time
import uuid

import grpc

import stubs


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", type=pathlib.Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--ca", type=pathlib.Path, required=True)
    parser.add_argument("--certificate", type=pathlib.Path, required=True)
    parser.add_argument("--key", type=pathlib.Path, required=True)
    parser.add_argument("--tx-hex")
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--pegins", type=int, default=20)
    parser.add_argument("--messages", type=int, default=0)
    return parser.parse_args()


class Conversation:
    """One bidirectional stream: requests go into a queue, responses are read one by one."""

    def __init__(self, stub, pb):
        self.pb = pb
        self.requests = queue.Queue()
        self.responses = stub.Stream(iter(self.requests.get, None), timeout=60)

    def send(self, request_id: str | None = None, **payload) -> str:
        request_id = request_id or str(uuid.uuid4())
        metadata = self.pb.RequestMetadata(
            request_id=request_id,
            timestamp=int(time.time()),
            node_id="python-client",
            protocol_version="1.0",
            priority=self.pb.REQUEST_PRIORITY_NORMAL,
        )
        self.requests.put(self.pb.StreamRequest(metadata=metadata, **payload))
        return request_id

    def answer(self):
        return next(self.responses)

    def close(self):
        self.requests.put(None)


def main() -> None:
    options = arguments()
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
            report = {
                "health": pb.HealthStatus.Name(stub.Health(pb.HealthRequest(), timeout=20).status),
                "features": list(
                    stub.GetCapabilities(
                        pb.CapabilitiesRequest(node_id="python-client"), timeout=20
                    ).features
                ),
            }
            report.update(converse(Conversation(stub, pb), pb, options))
    print(json.dumps(report))


def registration(pb):
    return pb.NodeRegistration(
        node_info=pb.NodeInfo(
            public_key="02" + "11" * 32, node_type=pb.NODE_TYPE_VALIDATOR, version="1.0.0"
        ),
        capabilities=["governance.v1"],
        auth=pb.AuthCredentials(auth_type=pb.AUTH_TYPE_MUTUAL_TLS),
    )


def converse(stream: Conversation, pb, options) -> dict:
    early = stream.send(status_update=pb.StatusUpdate(status=pb.NODE_STATUS_ACTIVE))
    before = stream.answer()
    registered = stream.send(node_registration=registration(pb))
    accepted = stream.answer()
    assert accepted.metadata.request_id == registered, accepted

    stream.send(heartbeat=pb.Heartbeat(timestamp=int(time.time()), sequence=7))
    beat = stream.answer()

    pending = {
        stream.send(
            pegin_notification=pb.PeginNotification(
                btc_txid=f"{n:064x}",
                vout=n,
                amount=10_000 + n,
                evm_address="0x" + "ab" * 20,
                confirmations=6,
            )
        )
        for n in range(options.pegins)
    }
    status = stream.send(
        status_update=pb.StatusUpdate(
            status=pb.NODE_STATUS_ACTIVE,
            block_height=100,
            sync_status=pb.SYNC_STATUS_SYNCED,
            connection_count=3,
        )
    )
    pending.add(status)
    acknowledged = 0
    while pending:
        answer = stream.answer()
        assert answer.metadata.status == pb.STATUS_CODE_SUCCESS, answer
        assert answer.WhichOneof("payload") is None, answer
        pending.remove(answer.metadata.request_id)
        acknowledged += 1

    signed = stream.send(
        signature_request=pb.SignatureRequest(
            tx_hex=options.tx_hex,
            input_indices=range(options.inputs),
            amounts=[100_000] * options.inputs,
            tx_type=pb.TRANSACTION_TYPE_PEGOUT,
            required_signatures=2,
        )
    )
    signatures = stream.answer()
    assert signatures.metadata.request_id == signed, signatures
    refused = stream.send(
        pegin_notification=pb.PeginNotification(btc_txid="nonsense", evm_address="0x00")
    )
    refusal = stream.answer()
    assert refusal.metadata.request_id == refused, refusal
    stream.close()
    return {
        "before_registration": pb.StatusCode.Name(before.metadata.status),
        "before_registration_answers": before.metadata.request_id == early,
        "registered": accepted.registration_ack.accepted,
        "heartbeat_sequence": beat.heartbeat_ack.sequence,
        "acknowledged": acknowledged,
        "signature_status": pb.SignatureStatus.Name(signatures.signature_response.status),
        "signatures": len(signatures.signature_response.signatures),
        "refused_status": pb.StatusCode.Name(refusal.metadata.status),
        "refused_code": pb.ErrorCode.Name(refusal.error_response.error_code),
        "refused_text": refusal.error_response.error_message,
    }


if __name__ == "__main__":
    main()
