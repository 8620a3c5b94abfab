//! Parts of documents that are made from tables of the program.

use std::fs;
use std::path::Path;

/// Holds a part of a page against what it is made from, or writes it anew.
pub fn hold(page: &str, (begin, end): (&str, &str), wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    if std::env::var_os("WAYGATE_BLESS").is_some() {
        fs::write(&file, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
    } else {
        assert!(table == wanted, "{page} is out of date: run this test with WAYGATE_BLESS=1");
    }
}
