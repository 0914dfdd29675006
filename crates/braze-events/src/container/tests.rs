use std::collections::HashMap;

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use proptest::prelude::*;

use super::*;
use crate::containers::{SCHEMA, codecs, counts, datums, written};

fn split_whole(message: &[u8]) -> Result<(Vec<u8>, Framing), ContainerRefusal> {
    let (mut body, mut parts) = (Vec::new(), Vec::new());
    split(message, usize::MAX, &mut body, &mut parts)?;
    Ok((body, Framing::Parts(parts.into())))
}

/// Avro's encoding of an integer.
fn integer(number: i64) -> Vec<u8> {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).expect("7 bits"));
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&integer(i64::try_from(bytes.len()).expect("is short")), bytes].concat()
}

/// A container made by hand: metadata, and blocks as count and stored bytes.
fn made(metadata: &[(&str, &[u8])], blocks: &[(i64, &[u8])]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    if !metadata.is_empty() {
        // With a negative count and a size, as the specification allows.
        let entries: Vec<u8> =
            metadata.iter().flat_map(|(key, value)| [sized(key.as_bytes()), sized(value)].concat()).collect();
        out.extend(integer(-i64::try_from(metadata.len()).expect("are few")));
        out.extend(sized(&entries));
    }
    out.push(0);
    out.extend([b'#'; MARKER_BYTES]);
    for (count, stored) in blocks {
        out.extend([integer(*count), sized(stored), vec![b'#'; MARKER_BYTES]].concat());
    }
    out
}

#[test]
fn containers_of_every_codec_come_apart_as_they_were_written() {
    for codec in codecs() {
        for in_block in [1, 7, 1000] {
            let (body, framing) = split_whole(&written(codec, 0..100, in_block)).expect("is whole");
            assert!(body == datums(0..100), "{codec:?}");
            let Framing::Parts(parts) = &framing else { unreachable!() };
            assert_eq!(parts.len(), 100_usize.div_ceil(in_block));
            assert_eq!(counts(&framing), (100, 0));
            let Framing::Avro(Datums { schema, .. }) = &parts[0].framing else { panic!("are datums") };
            assert!(schema.text().contains("users.messages.email"));
        }
    }
}

#[test]
fn without_a_codec_blocks_are_as_they_are() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    let message = made(&[schema, ("other", b"\xff")], &[(2, b"ab"), (1, b"c")]);
    let (body, framing) = split_whole(&message).expect("is whole");
    assert_eq!((&*body, counts(&framing)), (&b"abc"[..], (3, 0)));
}

#[test]
fn headers_that_cannot_be_used_say_why() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    for (message, expected) in [
        (made(&[schema, ("avro.codec", b"bzip2")], &[]), "the codec \"bzip2\""),
        (made(&[schema, ("avro.codec", b"xz")], &[]), "null, deflate, snappy or zstandard"),
        (made(&[], &[]), "no schema"),
        (made(&[("avro.schema", b"\xff")], &[]), "not UTF-8"),
        (b"Obj\x02".to_vec(), "not a map"),
        ([&MAGIC[..], &[0xff; 12]].concat(), "not a map"),
        ([&MAGIC[..], &integer(1), &integer(i64::MAX)].concat(), "not a map"),
        ([&MAGIC[..], &integer(1), &integer(-1)].concat(), "not a map"),
        ([&MAGIC[..], &integer(1 << 60), &vec![0; HEADER_BYTES_MAX]].concat(), "longer than any schema"),
    ] {
        let refusal = split_whole(&message).expect_err(expected).to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
    let whole = made(&[schema], &[]);
    for cut in 0..whole.len() {
        assert_eq!(split_whole(&whole[..cut]).err(), Some(ContainerRefusal::Header("cut off")));
    }
}

#[test]
fn a_damaged_block_is_counted_and_harms_no_other() {
    for codec in codecs() {
        let whole = written(codec, 0..40, 10);
        let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
        let block = header + header_next(&whole, header);
        let head = usize::from(whole[block + 1] >= 0x80);
        for (what, at) in [("stored", block + head + 20), ("length", block + 1)] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let (_, framing) = split_whole(&damaged).expect("the header is whole");
            let (read, lost) = counts(&framing);
            // Null and deflate have no checksum: of them, the datums tell.
            let is_booked = if what == "stored" { read + lost == 40 } else { (1..=10).contains(&lost) };
            assert!(matches!(read, 30 | 40) && is_booked, "{codec:?}: {what}: {read} {lost}");
        }
    }
}

#[test]
fn a_damaged_marker_costs_no_event() {
    for codec in codecs() {
        let whole = written(codec, 0..40, 10);
        let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
        let first = header + header_next(&whole, header);
        for at in [header - 1, first - 1, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let (body, framing) = split_whole(&damaged).expect("the header is readable");
            assert_eq!(counts(&framing), (40, 0), "{codec:?} at {at}");
            assert!(body == datums(0..40), "{codec:?} at {at}");
        }
    }
}

#[test]
fn containers_one_after_the_other_are_read_each_with_its_own_header() {
    let [null, deflate, snappy, zstandard] = codecs();
    let other = [("avro.schema", &br#""string""#[..]), ("avro.codec", b"null")];
    let all = [
        written(null, 0..1, 1),
        written(deflate, 1..5_000, 100),
        written(snappy, 0..0, 1),
        written(zstandard, 5_000..5_001, 1),
        made(&other, &[(1, b"\x02a")]),
        written(snappy, 5_001..5_010, 2),
    ];
    let (body, framing) = split_whole(&all.concat()).expect("all are whole");
    let expected = [&*datums(0..5_001), b"\x02a", &datums(5_001..5_010)].concat();
    assert!(body == expected);
    assert_eq!(counts(&framing), (5_011, 0));
    let Framing::Parts(parts) = &framing else { unreachable!() };
    let schemas: Vec<_> = parts
        .iter()
        .filter_map(|part| match &part.framing {
            Framing::Avro(datums) => Some(&datums.schema),
            _ => None,
        })
        .collect();
    // What is made of a schema is remembered by its identity.
    let changes = schemas.windows(2).filter(|pair| !Arc::ptr_eq(pair[0], pair[1])).count();
    assert_eq!(changes, 2);
}

#[test]
fn damage_never_swallows_the_next_container() {
    type Damage = fn(&mut Vec<u8>);
    let (one, two) = (written(codecs()[2], 0..1, 1), written(codecs()[3], 1..5_001, 100));
    let kinds: [(&str, Damage); 5] = [
        ("the last marker is damaged", |one| *one.last_mut().expect("is long") ^= 1),
        ("the last marker is cut off", |one| one.truncate(one.len() - 16)),
        ("the last marker is cut short", |one| one.truncate(one.len() - 3)),
        ("zeros are behind it", |one| one.resize(one.len() + 4096, 0)),
        ("text is behind it", |one| one.extend(b"\nObj\x01 and Obj\x01\xff are no headers\n")),
    ];
    for (what, damage) in kinds {
        let mut damaged = one.clone();
        damage(&mut damaged);
        let (_, framing) = split_whole(&[damaged, two.clone()].concat()).expect("the headers are whole");
        let (read, lost) = counts(&framing);
        assert!(matches!((read, lost), (5_001, 0 | 1) | (5_000, 1)), "{what}: {read} {lost}");
    }
}

#[test]
fn a_container_that_cannot_be_read_is_refused_and_the_one_before_it_is_read() {
    let one = written(codecs()[1], 0..10, 3);
    let schema = ("avro.schema", SCHEMA.as_bytes());
    let foreign = made(&[schema, ("avro.codec", b"xz")], &[(1, b"a")]);
    for (behind, expected) in [
        (foreign.clone(), "the codec \"xz\""),
        (foreign[..30].to_vec(), "cut off"),
        (b"Ob".to_vec(), "cut off"),
        ([&MAGIC[..], &[0xff; 12]].concat(), "not a map"),
        ([&[0; 40][..], &foreign].concat(), "the codec \"xz\""),
    ] {
        let (mut body, mut parts) = (Vec::new(), Vec::new());
        let refusal =
            split(&[&*one, &behind].concat(), usize::MAX, &mut body, &mut parts).expect_err(expected);
        assert!(refusal.to_string().contains(expected), "{refusal}");
        assert!(body == datums(0..10));
        assert_eq!(counts(&Framing::Parts(parts.into())).0, 10);
    }
}

fn header_next(whole: &[u8], header: usize) -> usize {
    let marker = &whole[header - MARKER_BYTES..header];
    memchr::memmem::find(&whole[header..], marker).expect("the first block ends") + MARKER_BYTES
}

#[test]
fn a_container_that_is_cut_off_loses_its_last_block() {
    let whole = made(&[("avro.schema", SCHEMA.as_bytes())], &[(2, b"ab"), (3, b"cde")]);
    for cut in 1..16 {
        let (body, framing) = split_whole(&whole[..whole.len() - cut]).expect("the header is whole");
        assert_eq!((&*body, counts(&framing)), (&b"ab"[..], (2, 3)), "{cut}");
    }
}

#[test]
fn counts_that_lie_are_not_believed() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    let counts = |blocks: &[(i64, &[u8])]| {
        counts(&split_whole(&made(&[schema], blocks)).expect("the header is whole").1)
    };
    assert_eq!(counts(&[(1 << 60, b"abc"), (1, b"a")]), (1, 1));
    assert_eq!(counts(&[(4, b"abc"), (1, b"a")]), (1, 1));
    assert_eq!(counts(&[(0, b"abc"), (1, b"a")]), (1, 1));
    assert_eq!(counts(&[(-5, b"abc"), (1, b"a")]), (1, 1));
    assert_eq!(counts(&[(0, b""), (1, b"a")]), (1, 0));
    let deflated = made(&[schema, ("avro.codec", b"deflate")], &[(1 << 60, b"\xff\xff"), (2, b"\xff\xff")]);
    let (_, framing) = split_whole(&deflated).expect("the header is whole");
    assert_eq!(super::tests::counts(&framing), (0, 1 + 2));
}

#[test]
fn a_block_whose_count_lies_is_damage_that_says_so_and_leaves_nothing_behind() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    // Two mebibytes of zeros.
    let zeros = {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; 2 << 20]).expect("goes to memory");
        encoder.finish().expect("goes to memory")
    };
    for count in [0, 1 << 60, (2 << 20) + 1] {
        let message = made(&[schema, ("avro.codec", b"deflate")], &[(count, &zeros)]);
        let header = Header::read(&message).expect("is whole").expect("is whole").bytes;
        let (mut reader, mut body) = (BlockReader::default(), b"before".to_vec());
        let mut take =
            |bytes: &[u8]| reader.take(bytes, true, BLOCK_BYTES_MAX, &mut body).expect("can be read");
        assert_eq!(take(&message), (header, BlockStep::Header));
        let (bytes, BlockStep::Damage(damage)) = take(&message[header..]) else { panic!("{count} is a lie") };
        assert_eq!((bytes, damage.bytes), (message.len() - header, (message.len() - header) as u64));
        assert_eq!(damage.events, 1, "{count}");
        assert!(
            damage.problem.contains(&format!("says {count} events, for 2097152 bytes")),
            "{}",
            damage.problem
        );
        assert_eq!(body, b"before");
    }
}

#[test]
fn a_thousand_tiny_blocks_are_few_parts() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    let parts_of = |blocks: &[(i64, &[u8])]| {
        let Framing::Parts(parts) = split_whole(&made(&[schema], blocks)).expect("the header is whole").1
        else {
            unreachable!()
        };
        (parts.len(), counts(&Framing::Parts(parts)))
    };
    assert_eq!(parts_of(&[(0, &b""[..])].repeat(1000)), (0, (0, 0)));
    assert_eq!(parts_of(&[(0, &b"a"[..])].repeat(1000)), (1, (0, 1000)));
    let mixed =
        [[(0, &b""[..]); 3], [(1, b"a"), (0, b""), (0, b"x")], [(9, b"x"), (1, b"b"), (0, b"")]].concat();
    assert_eq!(parts_of(&mixed), (3, (2, 2)));
}

#[test]
fn a_block_that_is_whole_and_too_long_is_told_as_such() {
    let schema = ("avro.schema", SCHEMA.as_bytes());
    let long = vec![b'x'; BLOCK_BYTES_MAX + 1];
    for (blocks, is_cut) in [([(7, &*long), (1, b"a")], false), ([(1, b"a"), (7, &*long)], true)] {
        let mut message = made(&[schema], &blocks);
        message.truncate(message.len() - usize::from(is_cut));
        for step in [usize::MAX, 100_000] {
            let (mut reader, mut body, mut problems) = (BlockReader::default(), Vec::new(), Vec::new());
            let (mut taken, mut end) = (0, 0);
            loop {
                let whole = end == message.len();
                let (bytes, step_taken) = reader
                    .take(&message[taken..end], whole, BLOCK_BYTES_MAX, &mut body)
                    .expect("can be read");
                taken += bytes;
                match step_taken {
                    BlockStep::Nothing if whole => break,
                    BlockStep::Nothing => end = end.saturating_add(step).min(message.len()),
                    BlockStep::Damage(damage) | BlockStep::CutOff(damage) => problems.push(damage),
                    BlockStep::Header | BlockStep::Block(_) => {}
                }
            }
            let [damage] = &problems[..] else { panic!("{problems:?}") };
            assert_eq!(body, b"a");
            assert_eq!(damage.problem.contains("longer than 16 MiB"), !is_cut, "{}", damage.problem);
            assert_eq!(damage.events, 7);
        }
    }
}

#[test]
fn what_expands_without_end_is_given_up() {
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    let value = Value::Record(vec![("b".into(), Value::Bytes(long))]);
    let schema = r#"{"type":"record","name":"a","fields":[{"name":"b","type":"bytes"}]}"#;
    let schema = Schema::parse_str(schema).expect("is a schema");
    for codec in codecs().into_iter().skip(1) {
        let mut writer = Writer::with_codec(&schema, Vec::new(), codec);
        writer.append(value.clone()).expect("fits its schema");
        let message = writer.into_inner().expect("goes to memory");
        assert!(message.len() < MESSAGE_BYTES_MAX / 10);
        let (body, framing) = split_whole(&message).expect("the header is whole");
        assert_eq!((body.len(), counts(&framing)), (0, (0, 1)), "{codec:?}");
    }
}

#[test]
fn what_has_no_room_behind_what_stands_before_it_is_given_up() {
    let message = written(apache_avro::Codec::Null, 0..10, 10);
    let expanded = datums(0..10).len();
    for (body_max, whole) in [(7 + expanded, 10), (7 + expanded - 1, 0), (7, 0), (0, 0)] {
        let (mut body, mut parts) = (vec![0; 7], Vec::new());
        split(&message, body_max, &mut body, &mut parts).expect("the header is whole");
        assert_eq!(counts(&Framing::Parts(parts.into())).0, whole, "{body_max}");
        assert_eq!(body.len(), if whole > 0 { 7 + expanded } else { 7 });
    }
}

#[test]
fn a_wrong_checksum_is_damage() {
    let mut stored = snap::raw::Encoder::new().compress_vec(b"abc").expect("is short");
    stored.extend(crc32fast::hash(b"abc").to_be_bytes());
    let mut out = b"before".to_vec();
    let mut expand = |stored: &[u8]| {
        let expanded = Expander::default().expand(Codec::Snappy, stored, 100, &mut out).ok();
        (expanded, String::from_utf8(out.clone()).expect("is text"))
    };
    stored[4] ^= 1;
    assert_eq!(expand(&stored), (None, "before".into()));
    assert_eq!(expand(b"ab"), (None, "before".into()));
    stored[4] ^= 1;
    assert_eq!(expand(&stored), (Some(3), "beforeabc".into()));
}

#[test]
fn a_snappy_block_gets_no_memory_that_it_can_not_fill() {
    let expand = |stored: &[u8], out: &mut Vec<u8>| {
        Expander::default()
            .expand(Codec::Snappy, stored, BLOCK_BYTES_MAX, out)
            .map_err(|error| error.to_string())
    };
    // A length of 16 MiB, and nothing to make it of.
    let lie = [&[0x80, 0x80, 0x80, 0x08][..], &[0; 26]].concat();
    let mut out = Vec::new();
    assert_eq!(expand(&lie, &mut out), Err("its length is wrong".into()));
    assert_eq!(out.capacity(), 0);
    // Nothing is shorter than what is all the same.
    for bytes in [1, 64, 65, 1 << 20] {
        let whole = vec![7; bytes];
        let mut stored = snap::raw::Encoder::new().compress_vec(&whole).expect("is short");
        stored.extend(crc32fast::hash(&whole).to_be_bytes());
        out.clear();
        assert_eq!(expand(&stored, &mut out), Ok(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damage anywhere behind the header never panics, and loses no block that it does not touch.
    #[test]
    fn damage_loses_one_block_at_most(
        codec in 0usize..4, at: prop::sample::Index, bits in 1u8.., cut: bool
    ) {
        let whole = written(codecs()[codec], 0..60, 10);
        let behind = written(codecs()[0], 60..70, 10);
        let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
        let mut damaged = whole.clone();
        let at = header + at.index(whole.len() - header);
        damaged[at] ^= bits;
        if cut {
            damaged.truncate(at);
        }
        damaged.extend(behind);
        let (body, framing) = split_whole(&damaged).expect("the headers are whole");
        let (read, _) = counts(&framing);
        prop_assert!(read >= if cut { 10 } else { 60 }, "{}", read);
        let Framing::Parts(parts) = framing else { unreachable!() };
        prop_assert!(parts.iter().all(|part| part.end <= body.len()));
    }

    /// Arbitrary bytes behind a magic are refused or come apart, and never into more than they could hold.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..8], 0..300)) {
        let metadata: HashMap<_, _> = [("avro.schema", SCHEMA.as_bytes())].into();
        let header = made(&metadata.into_iter().collect::<Vec<_>>(), &[]);
        for message in [[&MAGIC[..], &bytes].concat(), [header, bytes].concat()] {
            if let Ok((_, framing)) = split_whole(&message) {
                let (read, lost) = counts(&framing);
                prop_assert!(read + lost <= message.len() as u64);
            }
        }
    }

    /// However often blocks lie about their number, they are not believed more than once.
    #[test]
    fn no_more_is_lost_than_there_is(repeat in 1_usize..50, count in 0_i64..500, stored in 0_i64..500) {
        let schema = ("avro.schema", SCHEMA.as_bytes());
        let lie = [integer(count), integer(stored), vec![b'#'; MARKER_BYTES]].concat();
        let message = [made(&[schema], &[]), lie.repeat(repeat)].concat();
        let (read, lost) = counts(&split_whole(&message).expect("the header is whole").1);
        prop_assert!(read + lost <= message.len() as u64, "{} {}", read, lost);
    }
}
