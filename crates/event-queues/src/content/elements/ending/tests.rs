use super::*;

#[test]
fn what_may_be_being_written_is_held_back_where_nothing_is_lost_by_that() {
    let event = "{\"event_type\":\"t\",\"id\":\"1\"}";
    let damaged = format!("[{{\"a\":[1,{event}]");
    let long = format!("[1,{{\"a\":\"{}", "x".repeat(1000));
    for (text, is_cut_off, body, oversized) in [
        ("[1,{\"a\":2", true, "[1]\n", 0),
        ("[1,", true, "[1]\n", 0),
        ("[", true, "", 0),
        ("1\n{\"events\":[2,{\"a\"", true, "1\n[2]\n", 0),
        ("{\"events\"", true, "", 0),
        ("{\"a\":1}\n{\"a\":-", true, "{\"a\":1}\n", 0),
        ("[1]", false, "[1]\n", 0),
        ("{\"events\":[1],\"a\"", false, "[1]\n", 0),
        // What is damaged may have taken the end of the array.
        ("[1,{\"a\":[2}}", false, "[1]\n[{\"a\":[2}}]\n", 0),
        ("[1,{a", false, "[1]\n[{a]\n", 0),
        (&damaged, false, &format!("{damaged}]\n"), 0),
        (&long, false, "[1]\n", 1),
    ] {
        for step in [1, usize::MAX] {
            let mut splitter = ElementSplitter::new(0, 0, 500);
            let mut cuts = Vec::new();
            for bytes in text.as_bytes().chunks(step) {
                splitter.push(bytes);
                cuts.extend(splitter.take());
            }
            assert_eq!(splitter.finish_or_cut_off(), is_cut_off, "{text}");
            cuts.extend(splitter.take());
            assert_eq!(cuts.iter().map(|cut| cut.oversized).sum::<u32>(), oversized, "{text}");
            let bodies: Vec<_> = cuts.into_iter().flat_map(|cut| cut.body).collect();
            assert_eq!(bodies, body.as_bytes(), "{text}");
        }
    }
}
