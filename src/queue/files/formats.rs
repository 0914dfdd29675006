//! Formats that are known by their first bytes and not read: their names, and what to do instead. Read as text they
//! would be booked as a few malformed lines and remembered as counted.

/// First bytes, the format, and what helps.
const REFUSED: [(&[u8], &str, &str); 9] = [
    (b"\xfd7zX", "xz", "unpack it, or pipe it: xz -dc FILE | braze-datadog run --once --import -"),
    (b"BZh", "bzip2", "unpack it, or pipe it: bzip2 -dc FILE | braze-datadog run --once --import -"),
    (b"\x04\x22\x4d\x18", "lz4", "unpack it, or pipe it: lz4 -dc FILE | braze-datadog run --once --import -"),
    (b"PK\x03\x04", "zip", "unpack it"),
    (b"7z\xbc\xaf", "7z", "unpack it"),
    (b"PAR1", "Parquet", "export the events as Avro or JSON"),
    (b"ORC", "ORC", "export the events as Avro or JSON"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"),
];

/// Why content that begins with `head` is not read; `None`: it may be events.
pub(super) fn refused(head: &[u8]) -> Option<String> {
    let is_format = |(magic, ..): &&(&[u8], &str, &str)| head.starts_with(magic);
    REFUSED
        .iter()
        .find(is_format)
        .map(|(_, format, help)| format!("it is {format}, which is not read; {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named_and_text_is_read() {
        for (head, name) in [
            (&b"\xfd7zXZ\0\0"[..], "xz"),
            (b"BZh91AY&", "bzip2"),
            (b"PK\x03\x04", "zip"),
            (b"PAR1", "Parquet"),
        ] {
            let reason = refused(head).unwrap();
            assert!(reason.starts_with(&format!("it is {name}, which is not read; ")), "{reason}");
        }
        for head in [&b""[..], b"{\"id\":1}", b"[", b"Obj\x01", b"\xef\xbb\xbf{", b"P"] {
            assert_eq!(refused(head), None, "{head:?}");
        }
    }
}
