use super::*;

#[test]
fn the_soft_limit_is_read() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max processes             62879                62879                processes \n\
                  Max open files            1024                 1048576              files     \n";
    assert_eq!(parse(limits), 1024);
    assert_eq!(parse(&limits.replace("1024 ", "unlimited ")), UNKNOWN);
    assert_eq!(parse(""), UNKNOWN);
    assert!(soft_limit() > 0);
}
