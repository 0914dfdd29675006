use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Everything that comes before the end, and the end.
fn read(mut bytes: &[u8], step: usize) -> (Vec<u8>, io::Result<()>) {
    let mut out = Vec::new();
    let mut buffer = vec![0; step];
    while !bytes.is_empty() {
        let mut frame = ZstdFrame::new(&mut bytes, WINDOW_BYTES_MAX);
        loop {
            match frame.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => out.extend_from_slice(&buffer[..read]),
                Err(error) => return (out, Err(error)),
            }
        }
    }
    (out, Ok(()))
}

/// As zstandard's own library reads them.
fn reference(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_BYTES_MAX.ilog2())?;
    let mut out = Vec::new();
    decoder.read_to_end(&mut out)?;
    Ok(out)
}

fn pack(text: &[u8], level: i32, checksum: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(checksum).unwrap();
    let (first, second) = text.split_at(text.len() / 3);
    encoder.write_all(first).unwrap();
    // A block ends here.
    encoder.flush().unwrap();
    encoder.write_all(second).unwrap();
    encoder.finish().unwrap()
}

/// Text that is repeated near and far, of 3 MB: more than a window of the lower levels.
fn long() -> Vec<u8> {
    let numbers = (0..400_000_u32).map(|number| (number % 70_000).wrapping_mul(2_654_435_761).to_string());
    numbers.collect::<String>().into_bytes()
}

#[test]
fn every_level_is_read_with_frames_that_are_to_be_skipped_between() {
    let long = long();
    for level in [-5, 1, 3, 9, 19] {
        for checksum in [false, true] {
            let packed = pack(&long, level, checksum);
            let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
            let all = [&skipped[..], &packed, &skipped, &pack(b"", level, checksum), &packed].concat();
            for step in [4096, 1 << 20] {
                let (text, end) = read(&all, step);
                end.unwrap();
                assert!(text == [&long[..], &long].concat(), "level {level}");
            }
            let (text, end) = read(&all[..5], 10);
            assert_eq!((text.len(), end.unwrap_err().kind()), (0, io::ErrorKind::UnexpectedEof));
        }
    }
}

#[test]
fn all_whole_blocks_before_damage_are_handed_out() {
    let long = long();
    let packed = pack(&long, 1, true);
    let (text, end) = read(&packed[..packed.len() - 5], 4096);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(long.starts_with(&text) && long.len() - text.len() <= 128 << 10, "{}", text.len());

    let mut damaged = packed;
    *damaged.last_mut().unwrap() ^= 1;
    let (text, end) = read(&damaged, 4096);
    assert!(text == long && end.unwrap_err().to_string() == "its checksum is wrong");
}

#[test]
fn what_the_source_says_is_told() {
    struct Fails(io::ErrorKind);
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(if self.0 == io::ErrorKind::Other { io::Error::from_raw_os_error(5) } else { self.0.into() })
        }
    }
    let packed = pack(&long(), 1, true);
    for cut in [0, 2, 5, 9, 10_000, packed.len() - 2] {
        let mut failing = ZstdFrame::new(packed[..cut].chain(Fails(io::ErrorKind::Other)), WINDOW_BYTES_MAX);
        let error = io::copy(&mut failing, &mut io::sink()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{cut}");
        let mut failing =
            ZstdFrame::new(packed[..cut].chain(Fails(io::ErrorKind::TimedOut)), WINDOW_BYTES_MAX);
        let error = io::copy(&mut failing, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{cut}");
    }
}

#[test]
fn a_window_that_is_too_large_is_refused() {
    for (log, fits) in [(23, true), (24, false), (27, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(b"text").unwrap();
        let (_, end) = read(&encoder.finish().unwrap(), 10);
        assert_eq!(end.map_err(|error| error.kind()).err(), (!fits).then_some(io::ErrorKind::OutOfMemory));
    }
}

proptest! {
    /// Whatever is written is read, as zstandard's own library reads it.
    #[test]
    fn what_is_packed_is_read(
        words in prop::collection::vec("[a-z]{1,6}|[0-9 ]{1,40}", 0..400), level in -3_i32..12, step in 1_usize..300
    ) {
        let text = words.concat().into_bytes();
        let (read, end) = read(&pack(&text, level, true), step);
        prop_assert!(end.is_ok());
        prop_assert_eq!(read, text);
    }

    /// Damage never panics. With a checksum none of it goes unseen. Without one nobody sees the most of it: of what the library
    /// refuses a hundredth is read here, and literals whose bits damage has shifted are other ones in each of the two.
    #[test]
    fn damage_is_seen_where_there_is_a_checksum(
        words in prop::collection::vec("[a-z]{1,6}|[0-9 ]{1,40}", 0..60), at: prop::sample::Index, bits in 1_u8..,
        checksum: bool
    ) {
        let text = words.concat().into_bytes();
        let mut packed = pack(&text, 3, checksum);
        let at = at.index(packed.len());
        packed[at] ^= bits;
        let (read, end) = read(&packed, 100);
        // The bit that says whether there is one may be what is damaged.
        let is_checked = checksum && at != 4;
        match (end, reference(&packed)) {
            (Ok(()), Ok(library)) if is_checked => prop_assert_eq!(read, library),
            (Ok(()), Err(_)) if is_checked => prop_assert_eq!(read, text),
            _ => {}
        }
    }
}
