//! The collector against real keys, a real transaction and the answers of three governance nodes.

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;

use super::fixture::{keys, task};
use super::*;

fn name_of(source: Source) -> String {
    match source {
        Source::Log(log) => log.to_string(),
        Source::Plain(endpoint) => format!("gov-{endpoint}"),
    }
}

const ID: MessageId = MessageId::new([9; 16]);

/// One collector with one open request.
fn open(endpoints: usize) -> (Collector, Arc<SigningTask>) {
    let task = task();
    let mut collector = Collector::new(endpoints);
    collector.handle_accepted(ID, Seq(4), Arc::clone(&task));
    (collector, task)
}

fn answer(
    collector: &mut Collector,
    task: &SigningTask,
    endpoint: u16,
    status: SignatureStatus,
    signatures: Vec<WitnessData>,
) -> Step {
    let verified = verify(task, status, "no funds".into(), signatures);
    collector.handle_answer(ID, Source::Plain(endpoint), verified, name_of)
}

#[test]
fn two_of_three_complete_a_request_once() {
    let (mut collector, task) = open(3);
    let keys = keys();
    let first = answer(&mut collector, &task, 0, SignatureStatus::Partial, task.sign(&keys[0]));
    let Step::Progress(progress) = first else { panic!("{first:?}") };
    assert_eq!((progress.inputs_signed, progress.inputs), (0, 2));
    let mut backwards = task.sign(&keys[2]);
    backwards.reverse();
    let second = answer(&mut collector, &task, 2, SignatureStatus::Partial, backwards);
    let Step::Concluded(seq, outcome) = second else { panic!("{second:?}") };
    assert_eq!((seq, outcome.state()), (Seq(4), OutcomeState::Complete));
    let transaction: Transaction = deserialize(&outcome.transaction).unwrap();
    assert!(transaction.input.iter().all(|input| input.witness.len() == 4));
    let third = answer(&mut collector, &task, 1, SignatureStatus::Partial, task.sign(&keys[1]));
    assert!(matches!(third, Step::Unknown), "A3: a request concludes once: {third:?}");
}

#[test]
fn one_member_answering_twice_is_one_signature() {
    let (mut collector, task) = open(3);
    let signatures = task.sign(&keys()[0]);
    for endpoint in 0..3 {
        let step =
            answer(&mut collector, &task, endpoint, SignatureStatus::Complete, signatures.clone());
        assert!(matches!(step, Step::Progress(_)), "{step:?}");
    }
}

#[test]
fn a_wrong_signature_is_counted_and_never_used() {
    let (mut collector, task) = open(3);
    let keys = keys();
    let mut wrong = task.sign(&keys[0]);
    // The signature of the other input, under this input's key: right bytes, wrong place is found
    // by verifying; a flipped byte is found nowhere.
    let mut bytes = wrong[0].signature.to_vec();
    bytes[20] ^= 1;
    wrong[0].signature = bytes.into();
    let step = answer(&mut collector, &task, 0, SignatureStatus::Complete, wrong);
    let Step::Progress(outcome) = step else { panic!("{step:?}") };
    assert_eq!(outcome.answers[0].signatures_invalid, 1);
    assert_eq!(outcome.answers[0].signatures_valid, 1);
    let step = answer(&mut collector, &task, 1, SignatureStatus::Partial, task.sign(&keys[1]));
    let Step::Progress(outcome) = step else { panic!("A4: {step:?}") };
    assert_eq!(outcome.inputs_signed, 1, "input 1 has two signatures, input 0 one");
}

#[test]
fn a_request_fails_when_every_endpoint_refuses_and_not_before() {
    let (mut collector, task) = open(2);
    let first = answer(&mut collector, &task, 0, SignatureStatus::Failed, Vec::new());
    assert!(matches!(first, Step::Progress(_)), "{first:?}");
    let pending = answer(&mut collector, &task, 1, SignatureStatus::Pending, Vec::new());
    assert!(matches!(pending, Step::Progress(_)), "{pending:?}");
    let last = answer(&mut collector, &task, 1, SignatureStatus::Timeout, Vec::new());
    let Step::Concluded(_, outcome) = last else { panic!("{last:?}") };
    assert_eq!(outcome.state(), OutcomeState::Failed);
    assert!(outcome.reason.contains("gov-0: no funds"), "{}", outcome.reason);
}

#[test]
fn a_dead_request_takes_no_answer_any_more() {
    let (mut collector, task) = open(3);
    let keys = keys();
    answer(&mut collector, &task, 0, SignatureStatus::Partial, task.sign(&keys[0]));
    let dead = collector.handle_dead(Seq(4), OutcomeState::TimedOut, name_of).unwrap();
    assert_eq!((dead.state(), dead.answers.len()), (OutcomeState::TimedOut, 1));
    let late = answer(&mut collector, &task, 1, SignatureStatus::Partial, task.sign(&keys[1]));
    assert!(matches!(late, Step::Unknown), "{late:?}");
    assert_eq!(collector.open_count(), 0);
}

#[test]
fn more_signatures_than_there_can_be_are_not_even_tried() {
    let (_, task) = open(3);
    let bogus = WitnessData { signature: vec![0; 70].into(), ..WitnessData::default() };
    let verified = verify(&task, SignatureStatus::Complete, String::new(), vec![bogus; 1000]);
    assert_eq!((verified.invalid, verified.signatures.len()), (1000, 0));
}
