use std::collections::{BTreeMap, HashMap};

use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;

fn encode<T: Serialize>(value: &T) -> Result<Payload, EncodeError> {
    Payload::encode(|to| to.value(value))
}

fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let payload = encode(value).expect("the value can be encoded");
    super::decode(
        &payload.bytes,
        Apart::Nothing,
        payload.handles.as_ref(),
        Decoder::value,
    )
    .expect("what was encoded can be decoded")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Line(i32, i32),
    Named { name: String, parts: Vec<Shape> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    small: (u8, i8, u16, i16),
    large: (u32, i32, u64, i64, u128, i128, usize),
    floats: (f32, f64),
    text: String,
    letter: char,
    flag: bool,
    unit: (),
    some: Option<Option<u32>>,
    list: Vec<Shape>,
    map: HashMap<String, BTreeMap<i16, Vec<u8>>>,
    array: [u16; 4],
}

fn everything() -> Everything {
    let inner = BTreeMap::from([(-1, vec![1, 2]), (7, vec![])]);
    Everything {
        small: (u8::MAX, i8::MIN, u16::MAX, i16::MIN),
        large: (
            u32::MAX,
            i32::MIN,
            u64::MAX,
            i64::MIN,
            u128::MAX,
            i128::MIN,
            usize::MAX,
        ),
        floats: (f32::MIN_POSITIVE, -0.0),
        text: "häß\0lich".into(),
        letter: '🦀',
        flag: true,
        unit: (),
        some: Some(None),
        list: vec![
            Shape::Nothing,
            Shape::Circle(1.5),
            Shape::Line(-1, 1),
            Shape::Named {
                name: String::new(),
                parts: vec![Shape::Nothing],
            },
        ],
        map: HashMap::from([("a".into(), inner), (String::new(), BTreeMap::new())]),
        array: [1, 2, 3, 4],
    }
}

#[test]
fn values_come_back_as_they_were() {
    assert_eq!(round_trip(&everything()), everything());
    assert_eq!(round_trip(&vec![(); 1000]).len(), 1000);
}

#[test]
fn bytes_that_were_cut_or_changed_are_an_error_or_another_value_but_never_a_panic() {
    let whole = encode(&everything())
        .expect("the value can be encoded")
        .bytes;
    for end in 0..whole.len() {
        let cut = super::decode::<Everything>(&whole[..end], Apart::Nothing, None, Decoder::value);
        assert!(cut.is_err(), "{end} of {} bytes are no value", whole.len());
    }
    // Every byte changed in a few ways, one at a time.
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            drop(super::decode::<Everything>(
                &changed,
                Apart::Nothing,
                None,
                Decoder::value,
            ));
        }
    }
}

#[test]
fn a_length_that_is_a_lie_costs_no_memory() {
    let mut lie = u64::MAX.to_le_bytes().to_vec();
    lie.push(0);
    assert!(super::decode::<Vec<u64>>(&lie, Apart::Nothing, None, Decoder::value).is_err());
    assert!(super::decode::<Vec<()>>(&lie, Apart::Nothing, None, Decoder::value).is_err());
    assert!(super::decode::<String>(&lie, Apart::Nothing, None, Decoder::value).is_err());
    assert!(super::decode(&lie, Apart::Nothing, None, Decoder::plain::<u64>).is_err());
}

#[test]
fn bytes_left_over_are_an_error() {
    let error = super::decode::<u8>(&[1, 2, 0], Apart::Nothing, None, Decoder::value)
        .expect_err("one is left over");
    assert!(
        error.to_string().contains("1 bytes are left over"),
        "{error}"
    );
}

#[derive(Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

#[test]
fn a_value_that_nests_too_deep_is_an_error_on_both_sides() {
    let mut chain = Chain(None);
    for _ in 0..2 * DEPTH_LIMIT {
        chain = Chain(Some(Box::new(chain)));
    }
    let error = encode(&chain).expect_err("it nests too deep");
    assert!(error.to_string().contains("nests deeper"), "{error}");
    let bytes = vec![1; 2 * DEPTH_LIMIT as usize];
    assert!(super::decode::<Chain>(&bytes, Apart::Nothing, None, Decoder::value).is_err());
    // Unlinked by hand: dropping it recursively would be fine, but is not what this tests.
    while let Some(next) = chain.0.take() {
        chain = *next;
    }
}

#[test]
fn the_sentence_of_a_custom_error_is_kept() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is secret"))
        }
    }
    let error = encode(&Refuses).expect_err("it refuses");
    assert_eq!(error.to_string(), "it is secret");
}

#[test]
fn a_sequence_of_unknown_length_can_be_encoded() {
    struct Evens;
    impl Serialize for Evens {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq((0..10_u32).filter(|number| number % 2 == 0))
        }
    }
    let bytes = encode(&Evens).expect("it can be encoded").bytes;
    let back: Vec<u32> =
        super::decode(&bytes, Apart::Nothing, None, Decoder::value).expect("it can be decoded");
    assert_eq!(back, [0, 2, 4, 6, 8]);
}

#[test]
fn a_skipped_field_is_an_error_that_names_it() {
    #[derive(Serialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none")]
        nickname: Option<u8>,
    }
    let error = encode(&Sparse { nickname: None }).expect_err("the other side could not tell");
    assert!(error.to_string().contains("`nickname`"), "{error}");
}

#[test]
#[expect(
    clippy::needless_borrow,
    reason = "as the macro writes it: the borrows choose the lane"
)]
fn numbers_take_the_bulk_lane_and_others_the_serde_lane() {
    type Real = f64;
    let numbers: Vec<Real> = vec![0.5, -1.0];
    let bulk = Payload::encode(|to| (&&&Lane::<Vec<Real>>::NEW).encode(&numbers, to));
    let mut expected = 2_u64.to_le_bytes().to_vec();
    expected.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    // The end of the item: it has no handles to shared memory.
    expected.push(0);
    assert_eq!(bulk.expect("numbers can be encoded").bytes, expected);

    let texts = vec!["a".to_owned()];
    let serde = Payload::encode(|to| (&&&Lane::<Vec<String>>::NEW).encode(&texts, to));
    let bytes = serde.expect("texts can be encoded").bytes;
    let back = super::decode(&bytes, Apart::Nothing, None, |from| {
        (&&&Lane::<Vec<String>>::NEW).decode(from)
    });
    assert_eq!(back.expect("texts can be decoded"), texts);
}

#[test]
fn handles_ride_along_and_work_at_the_other_end() {
    let (sender, receiver) = ipc::channel::<u32>().expect("a channel can be made");
    let (back_sender, back_receiver) = ipc::channel::<u32>().expect("a channel can be made");
    let region = IpcSharedMemory::from_bytes(b"shared");
    let value = (7_u64, sender, vec![back_receiver], region, 0_u64);
    type Value = (
        u64,
        IpcSender<u32>,
        Vec<IpcReceiver<u32>>,
        IpcSharedMemory,
        u64,
    );

    let payload = encode(&value).expect("handles can be encoded");
    let handles = payload.handles.expect("there are handles");
    let ends = handles.ends.as_ref().expect("they are of ipc-channel");
    assert_eq!((ends.channels.len(), ends.regions.len()), (2, 1));
    let (seven, sender, receivers, region, zero): Value = super::decode(
        &payload.bytes,
        Apart::Nothing,
        Some(&handles),
        Decoder::value,
    )
    .expect("they come out");
    assert_eq!((seven, zero, &*region), (7, 0, b"shared".as_slice()));
    sender.send(1).expect("the sender works");
    assert_eq!(receiver.recv().expect("it was sent"), 1);
    back_sender.send(2).expect("the other end is there");
    assert_eq!(receivers[0].recv().expect("it was sent"), 2);
}

#[test]
fn zeroes_are_not_taken_for_handles() {
    let payload = encode(&(0_u64, 1_u64, 2_u64, 0_usize)).expect("numbers can be encoded");
    assert!(payload.handles.is_none());
    // More of them than handles would be allowed.
    let many: Vec<u64> = (0..1000).collect();
    let payload = encode(&(many.clone(),)).expect("numbers can be encoded");
    assert!(payload.handles.is_none());
    let back: (Vec<u64>,) = super::decode(&payload.bytes, Apart::Nothing, None, Decoder::value)
        .expect("numbers can be decoded");
    assert_eq!(back.0, many);
}

#[test]
fn too_many_handles_are_an_error() {
    let (sender, _receiver) = ipc::channel::<u32>().expect("a channel can be made");
    let error = encode(&vec![sender.clone(); 200]).expect_err("they are too many");
    assert!(error.to_string().contains("handles"), "{error}");
    // What failed left nothing for the next value.
    let payload = encode(&vec![sender; 3]).expect("a few are fine");
    let ends = payload.handles.and_then(|handles| handles.ends);
    assert_eq!(ends.map(|ends| ends.channels.len()), Some(3));
}

#[test]
fn a_value_that_fails_half_way_leaves_no_handles_behind() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let (sender, receiver) = ipc::channel::<u32>().expect("a channel can be made");
    encode(&(sender, Refuses)).expect_err("it refuses");
    assert!(
        encode(&0_u64)
            .expect("a number can be encoded")
            .handles
            .is_none()
    );
    // The sender was the only one, so its channel is closed now.
    assert!(receiver.recv().is_err());
}

#[test]
fn handles_that_are_not_decoded_are_closed() {
    #[derive(Debug)]
    struct Refuses;
    impl<'de> Deserialize<'de> for Refuses {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Refuses, D::Error> {
            Err(serde::de::Error::custom("no"))
        }
    }
    let (one, receiver) = ipc::channel::<u32>().expect("a channel can be made");
    let payload = encode(&(one.clone(), one)).expect("handles can be encoded");
    let handles = payload.handles.expect("there are handles");
    let decoded = super::decode::<(IpcSender<u32>, Refuses)>(
        &payload.bytes,
        Apart::Nothing,
        Some(&handles),
        Decoder::value,
    );
    assert_eq!(decoded.expect_err("it refuses").to_string(), "no");
    drop(handles);
    assert!(receiver.recv().is_err(), "a descriptor was left open");
}

#[test]
fn a_message_larger_than_a_socket_buffer_arrives_whole() {
    let (outbox, inbox) = super::connect().expect("a connection can be made");
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let sent = body.clone();
    let thread = std::thread::spawn(move || outbox.send(9, &sent[..5], &sent[5..], None));
    let message = inbox.next().expect("it arrives");
    assert!(message.kind == 9 && message.body == body && message.handles.is_none());
    thread
        .join()
        .expect("the sender ends")
        .expect("it could be sent");
    assert!(matches!(inbox.next(), Err(Silence::Closed)));
}
