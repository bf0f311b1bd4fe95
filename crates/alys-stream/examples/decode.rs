//! A tool that only encodes, decodes and checks: `protocol` alone, no runtime, no file, no network.
//!
//! `cargo run --example decode -- HEX` takes the bytes of a `governance.v1.StreamRequest`, as a
//! capture shows them; without bytes it makes a request of its own, and then breaks it.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;

use alys_stream::protocol::governance::{
    PeginNotification, RequestMetadata, StreamRequest, stream_request::Payload,
};
use alys_stream::protocol::message::MessageId;
use alys_stream::protocol::validate;
use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(text) = std::env::args().nth(1) {
        show(&hex::decode(text)?);
        return Ok(());
    }
    let mut request = example();
    let bytes = request.encode_to_vec();
    println!("encoded: {}", hex::encode(&bytes));
    show(&bytes);
    if let Some(Payload::PeginNotification(pegin)) = &mut request.payload {
        pegin.btc_txid = "4a5e".into();
    }
    show(&request.encode_to_vec());
    show(&bytes[..bytes.len() / 2]);
    Ok(())
}

fn show(bytes: &[u8]) {
    match StreamRequest::decode(bytes) {
        Err(error) => println!("{} bytes are no StreamRequest: {error}", bytes.len()),
        Ok(request) => match validate::request(&request) {
            Ok(kind) => println!("{} bytes, kind {}: {request:?}", bytes.len(), kind.0),
            Err(invalid) => println!("{} bytes decode, and are refused: {invalid}", bytes.len()),
        },
    }
}

fn example() -> StreamRequest {
    let pegin = PeginNotification {
        btc_txid: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b".into(),
        vout: 0,
        amount: 50_000,
        evm_address: "0x00112233445566778899aabbccddeeff00112233".into(),
        confirmations: 6,
        extra_data: None,
    };
    let metadata = RequestMetadata {
        request_id: MessageId::mint().to_string(),
        node_id: "alys-1".into(),
        ..RequestMetadata::default()
    };
    StreamRequest { metadata: Some(metadata), payload: Some(Payload::PeginNotification(pegin)) }
}
