//! The documents name tests: they must be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every function of the project's Rust files.
fn functions(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let name = |rest: &str| rest.split('(').next().unwrap_or_default().to_owned();
            names.extend(source.split("fn ").skip(1).map(name));
        }
    }
}

/// What stands between backticks and looks like the name of a test.
fn tests_named_in(document: &str) -> BTreeSet<&str> {
    let words = document.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        word.matches('_').count() >= 1
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    words.filter(is_name).collect()
}

#[test]
fn every_edge_case_has_the_tests_that_its_row_names() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    functions(&root.join("crates"), &mut names);
    functions(&root.join("tests"), &mut names);
    let document = fs::read_to_string(root.join("docs/edge-cases.md")).unwrap();
    let counters = ["too_big"];
    let missing: Vec<_> = tests_named_in(&document)
        .into_iter()
        .filter(|name| !counters.contains(name) && !names.contains(*name))
        .collect();
    assert!(missing.is_empty(), "docs/edge-cases.md names tests that are not there: {missing:?}");

    let rows = |letter: char, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let all = rows('A', 15).chain(rows('B', 7)).chain(rows('C', 11)).chain(rows('D', 21));
    for row in all.filter(|row| row != "B3") {
        let line = document
            .lines()
            .find(|l| l.starts_with(&format!("| {row} ")) || l.starts_with(&format!("| {row}, ")));
        let line = line.unwrap_or_else(|| panic!("docs/edge-cases.md has no row {row}"));
        let named = !tests_named_in(line).is_empty();
        let explained = line.contains("no test: ") || line.contains("every test: ");
        assert!(named || explained, "row {row} names no test and does not say why");
    }
}
