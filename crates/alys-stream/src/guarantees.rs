//! What is promised, and what happens if X dies while Y. There is nothing to call here.
//!
//! # The promises
//!
//! | id | promise |
//! |---|---|
//! | D1 | A message is *accepted* (`send` or `submit` returned its `seq`) only once it is on stable storage, in its durability class. |
//! | D2 | An accepted message ends settled by its delivery policy, or as a dead letter with a cause. Never neither, never both. |
//! | D3 | A governance node that speaks our session applies each message once. |
//! | D4 | Messages with one ordering key and priority arrive in the order of their `seq`. |
//! | D5 | Nothing is skipped silently: what cannot be delivered is a dead letter, what cannot be read a reported gap. |
//! | D6 | A message past its deadline is not sent. |
//! | D7 | Memory is bounded by configuration, not by the length of an outage or a backlog. |
//! | D8 | What governance pushes reaches its actor once, and is acknowledged once that has dealt with it; answers to requests once they are durable here. |
//! | D9 | A federation update is acted on only with valid signatures of the federation in force, forwards in version, at its height. |
//! | D10 | One damaged record never costs another. |
//! | D11 | A full disk is backpressure; a failed `fsync` is never repeated on the same file. |
//! | D12 | An old process, or a restored old copy of the log, is noticed and fenced. |
//!
//! # What happens if …
//!
//! | … dies | while | then |
//! |---|---|---|
//! | the caller, or its future is dropped | `send` has not returned | the message may or may not be accepted. Send it again with the same [`MessageId`](crate::protocol::message::MessageId): it is stored once, and the first `seq` comes back |
//! | the process (`kill -9`) | `send` has not returned | the same |
//! | the process | `send` has returned, nothing is sent yet | it is on disk and is delivered after the next start |
//! | the process | a message is sent and not acknowledged | the next session begins by comparing numbers: the peer says what it has, the rest is sent. Nothing is applied twice |
//! | the process | the peer has acknowledged, the settlement is not durable | the same: the peer still knows the number, because it forgets one only after our settlement was durable |
//! | the process | a message is becoming a dead letter | the letter is durable before the settlement; the next start finishes the second step |
//! | the machine loses power | a write is under way | the unfinished end of the log was never acknowledged to anyone and is cut off; the rest verifies by checksum |
//! | a connection, or a proxy on the way | anything | the stream is opened again after a backoff, and resumes. Loss of a connection never counts as an attempt |
//! | a governance node | it has stored and not acknowledged | it finds the message in its own log, and says so when it is connected again |
//! | a governance node, for good | a keyless message waits for any of them | another one gets it. A key stays with its node while something of it is unsettled |
//! | a governance node, for good | a message must reach all of them | it waits until its deadline, in the backlog on disk, not in memory |
//! | a connection's actor, or that of its stream | anything | it is started again after a backoff, and resumes; what the stream carried goes back to its queue. Beyond 5 restarts in 60 s the StreamActor begins anew |
//! | the StreamActor | anything | its supervisor starts it again from the disk; `send` waits for that, up to ten seconds |
//! | the process, or the StreamActor | a push is stored and its actor has not dealt with it | it is handed on again after the start, and acknowledged after that. An actor may be told twice, and can tell by version, id or digest |
//! | Bridge, Chain, Network, Storage or Sync | it is told something | it is started again after a backoff and told again what stands: the halt that lasts, the federation in force, what waits for its height. Until then the peer is told *in progress*, or to send again later |
//! | one of them hangs, or has no time | governance pushes | what is meant for it waits, within bounds of its own, and nothing that is meant for others. After 20 attempts, a quarter of an hour, a push is a dead letter |
//! | one of them, for good | it refuses what it is told | a proposal is a dead letter at once; a federation update is in force all the same, and told again |
//! | Chain or Bridge | an emergency halt arrives | the halt is told to the other one at once, and to it until it says that it stands still; a resume that comes late undoes no newer halt |
//! | a supervisor | – | its parent starts it again, with all its children |
//! | anything, again and again | – | its supervisor gives up and leaves it to its parent. When the root gives up, streams and stores are closed in order, [`StreamSystem::stopped`](crate::StreamSystem::stopped) says why, and the process is to end. Nothing that was accepted is lost |
//! | the root itself | – | the same |
//! | two endpoints contradict each other | governance pushes an update or a proposal | neither is acted on from then on, and there is an alert. What was in force before that stays in force |
//! | nobody | an update, a halt or a resume arrives that is unsigned, under-signed, old or replayed | it is refused, counted, and in the audit log; no actor is told |
//! | the disk is full | `send` is called | it is refused with the message handed back. What settles and acknowledges still has its reserve. It goes on by itself once there is room |
//! | `fsync` fails | `send` has not returned | the file is not trusted any more: everything not durable is written to a new one. If that fails too, the caller is told that it is not known |
//! | a sector | – | the record is set aside with its bytes, the gap is in the log, `/status` and metrics, and every other record is delivered |
//! | the data directory is restored from a backup | – | peers have seen later numbers: nothing is sent until `alys-stream buffer adopt` gives the copy an identity of its own |
//! | a second process is started on the same directory | – | it is refused: the directory is locked. On a copy of it, the peer fences the older one |
//! | whoever follows an outcome | – | the outcome is durable before anyone learns it; [`StreamHandle::follow`](crate::StreamHandle::follow) finds it again by the message's id. A follower notices nothing of a StreamActor that dies |
//!
//! # What is not promised
//!
//! - Order between messages of different keys or priorities.
//! - *Exactly once* towards your own actors: after a crash, or when an answer came too late, they are
//!   told again what they may have dealt with.
//! - *Exactly once* towards peers that speak plain `governance.v1`: there it is at least once, and
//!   `/status` says so for each endpoint. Duplicates carry the same request id.
//! - Anything about messages of the durability class `memory`, such as status updates: only the
//!   newest matters, and a crash forgets it.
