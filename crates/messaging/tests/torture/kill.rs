//! Real files and a real `kill -9`: this test runs itself as a child, reads which messages the
//! child was told are durable, kills it in the middle, and looks for them.

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use alys_stream_messaging::{Buffer, FileStorage, Recovered};

use super::*;

const ROUNDS: u64 = 25;
const DIR_VARIABLE: &str = "ALYS_STREAM_TORTURE_DIR";
const PAYLOAD_BYTES: usize = 300;

fn open(dir: &Path) -> (Buffer, Recovered) {
    let config = BufferConfig { segment_bytes: 64 * 1024, ..tiny() };
    Buffer::open(dir, config, Arc::new(FileStorage)).unwrap()
}

/// Says something to the parent, at once.
fn tell(word: &str, first: u64, last: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {first} {last}").unwrap();
    out.flush().unwrap();
}

/// The child: appends without end and tells what is durable and what is settled.
async fn append_until_killed(dir: &Path) {
    let (buffer, _) = open(dir);
    let mut oldest = buffer.unsettled().first().map_or(1, |seq| seq.0);
    for round in 1_u64.. {
        let first = buffer.next_seq().0;
        let messages = (first..first + round % 7 + 1).map(|n| message(n, PAYLOAD_BYTES)).collect();
        let last = buffer.append(NOW, messages).unwrap().last().unwrap().seq;
        buffer.durable(last).await.unwrap();
        tell("durable", first, last.0);
        if round % 5 == 0 {
            // A few stay open, so that there is something to find.
            let end = last.0.saturating_sub(20).max(oldest);
            tell("settling", oldest, end);
            let position = buffer.settle(&seqs(oldest..=end));
            buffer.position_durable(position).await.unwrap();
            tell("settled", oldest, end);
            oldest = end + 1;
        }
    }
}

/// Does nothing unless it is run by the test below.
#[tokio::test]
async fn the_process_that_is_killed() {
    if let Some(dir) = env::var_os(DIR_VARIABLE) {
        append_until_killed(Path::new(&dir)).await;
    }
}

/// What the child was told.
#[derive(Debug, Default)]
struct Told {
    durable: BTreeSet<u64>,
    settling: BTreeSet<u64>,
    settled: BTreeSet<u64>,
}

impl Told {
    fn read(&mut self, line: &str) -> bool {
        // The name of the test may stand before the first word.
        let words: Vec<&str> = line.split_whitespace().rev().take(3).collect();
        let [last, first, word] = words[..] else {
            return false;
        };
        let (Ok(first), Ok(last)) = (first.parse(), last.parse::<u64>()) else {
            return false;
        };
        match word {
            "durable" => self.durable.extend(first..=last),
            "settling" => self.settling.extend(first..=last),
            "settled" => self.settled.extend(first..=last),
            _ => return false,
        }
        true
    }
}

/// Runs the child until it told something `lines` times, kills it, and reads the rest.
fn run_and_kill(dir: &Path, lines: u64, told: &mut Told) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "kill::the_process_that_is_killed", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = 0;
    while count < lines {
        let line = output.next().expect("it goes on until it is killed").unwrap();
        count += u64::from(told.read(&line));
    }
    child.kill().unwrap();
    // What it said before it died counts; a line that was cut off does not.
    for line in output.map_while(Result::ok) {
        told.read(&line);
    }
    child.wait().unwrap();
}

#[test]
fn what_was_confirmed_is_found_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut epoch = 0;
    let mut rng = fastrand::Rng::with_seed(9);
    for round in 0..ROUNDS {
        // The first few die while they open.
        let lines = if round < 4 { 0 } else { rng.u64(1..120) };
        run_and_kill(dir.path(), lines, &mut told);
        let (buffer, recovered) = open(dir.path());
        assert_eq!(recovered.gaps, [], "round {round}");
        assert!(buffer.epoch().0 > epoch, "round {round}");
        epoch = buffer.epoch().0;
        for seq in &told.settled {
            assert!(buffer.is_settled(Seq(*seq)), "round {round}: {seq} is back");
            let found = buffer.lookup(&message(*seq, 0).id);
            assert_eq!(found, Some(Seq(*seq)), "round {round}: the id of {seq} is forgotten");
        }
        // What was on its way to be settled may be, without anyone having been told.
        let settling = std::mem::take(&mut told.settling);
        told.settled.extend(settling.iter().filter(|seq| buffer.is_settled(Seq(**seq))));
        told.durable.retain(|seq| !told.settled.contains(seq));
        for seq in &told.durable {
            assert!(buffer.next_seq().0 > *seq, "round {round}: {seq} would be given again");
            let found = buffer.read(Seq(*seq)).unwrap();
            assert_eq!(found, Some(message(*seq, PAYLOAD_BYTES)), "round {round}: {seq}");
        }
    }
    println!("cases: kill-9 {ROUNDS} ({} messages open at the end)", told.durable.len());
}
