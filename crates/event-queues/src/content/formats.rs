//! Formats that are recognised by their first bytes and refused: their names, and what to do instead. Read as text they
//! would be booked as a few malformed lines and remembered as counted.

/// First bytes, the format, and the advice.
const REFUSED: [(&[u8], &str, &str); 20] = [
    (b"\x04\x22\x4d\x18", "lz4", "unpack it, or pipe it: lz4 -dc FILE | braze-datadog run --once --import -"),
    (b"\x02\x21\x4c\x18", "lz4", "unpack it, or pipe it: lz4 -dc FILE | braze-datadog run --once --import -"),
    (b"\x5d\0\0", "lzma", "unpack it, or pipe it: xz -dc FILE | braze-datadog run --once --import -"),
    (b"LZIP", "lzip", "unpack it, or pipe it: lzip -dc FILE | braze-datadog run --once --import -"),
    (b"\x1f\x9d", "compress", "unpack it, or pipe it: gzip -dc FILE | braze-datadog run --once --import -"),
    (b"\xff\x06\0\0", "snappy", "unpack it"),
    (b"PK\x03\x04", "zip", "unpack it"),
    (b"PK\x05\x06", "zip", "unpack it"),
    (b"PK\x07\x08", "zip", "unpack it"),
    (b"7z\xbc\xaf", "7z", "unpack it"),
    (b"Rar!", "rar", "unpack it"),
    (b"SQLi", "SQLite", "export the events as Avro or JSON"),
    (b"ARRO", "Arrow", "export the events as Avro or JSON"),
    (b"PAR1", "Parquet", "export the events as Avro or JSON"),
    (b"ORC", "ORC", "export the events as Avro or JSON"),
    (b"%PDF", "PDF", "export the events as Avro or JSON"),
    // Before those of UTF-16, with which the first of them begins.
    (b"\xff\xfe\0\0", "UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE"),
    (b"\0\0\xfe\xff", "UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
];

/// The magic of a tar follows the name and the dates of its first file (POSIX, pax, "ustar Interchange Format").
const TAR_MAGIC_AT: usize = 257;
const TAR_MAGIC: &[u8] = b"ustar";
const TAR_HELP: &str =
    "unpack it, or pipe what is in it: tar -xOf FILE | braze-datadog run --once --import -";

/// How many first bytes [`refused`] must see of content that begins with `head`. JSON and Avro do not wait for them: a pipe
/// may be slow.
pub(crate) fn bytes_needed(head: &[u8]) -> usize {
    match head {
        // No name of a file holds a newline.
        _ if head.contains(&b'\n') => 0,
        [] | [b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n' | 0xef, ..] | [b'O', b'b', b'j', 1, ..] => 0,
        _ => TAR_MAGIC_AT + TAR_MAGIC.len(),
    }
}

/// Why content that begins with `head` is not read; `None`: it may be events.
pub(crate) fn refused(head: &[u8]) -> Option<String> {
    let is_format = |(magic, ..): &&(&[u8], &str, &str)| head.starts_with(magic);
    let known = REFUSED.iter().find(is_format).map(|(_, format, help)| (*format, *help));
    let is_tar = || head.get(TAR_MAGIC_AT..).is_some_and(|behind| behind.starts_with(TAR_MAGIC));
    let (format, help) = known.or_else(|| is_tar().then_some(("tar", TAR_HELP)))?;
    Some(format!("it is {format}, which is not read; {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named_and_text_is_read() {
        for (head, name) in [
            (&b"\x04\x22\x4d\x18"[..], "lz4"),
            (b"PK\x03\x04", "zip"),
            (b"7z\xbc\xaf\x27\x1c", "7z"),
            (&[&[b'a'; 257][..], b"ustar\0"].concat(), "tar"),
            (b"PAR1", "Parquet"),
            (b"\xff\xfe{\0", "UTF-16 text"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32 text"),
            (b"\0\0\xfe\xff\0\0\0{", "UTF-32 text"),
        ] {
            let reason = refused(head).unwrap();
            assert!(reason.starts_with(&format!("it is {name}, which is not read; ")), "{reason}");
        }
        for head in [&b""[..], b"{\"id\":1}", b"[", b"Obj\x01", b"\xef\xbb\xbf{", b"P"] {
            assert_eq!(refused(head), None, "{head:?}");
            assert_eq!(bytes_needed(head) == 0, head != b"P", "{head:?}");
        }
    }
}
