//! Which tags fit which policy.

use super::*;

fn seen(tag: &str) -> TagSeen {
    TagSeen { tag: Tag::new(tag).unwrap(), pushed_at: None }
}

fn fits(policy: &Follow, tags: &[&str]) -> Vec<String> {
    let mut found: Vec<(Place, &str)> = tags
        .iter()
        .filter_map(|tag| match policy.fit(&seen(tag)) {
            Fit::At(place) => Some((place, *tag)),
            Fit::No | Fit::Unordered => None,
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, tag)| tag.to_owned()).collect()
}

#[test]
fn both_spellings_of_a_range_mean_the_same() {
    let tags = ["1.3.9", "1.4.0", "v1.10.0", "1.9.0", "2.0.0", "1.4", "latest", "1.5.0-rc.1", "v2", "01.5.0"];
    for range in [">=1.4 <2", ">=1.4, <2", ">=1.4,<2", ">= 1.4  < 2", ">=v1.4 <v2.0.0", "^1.4", ">=1.4,,<2"] {
        let policy = Follow::semver(range).unwrap_or_else(|e| panic!("{range}: {e}"));
        assert_eq!(fits(&policy, &tags), ["1.4.0", "1.9.0", "v1.10.0"], "{range}");
    }
}

#[test]
fn alternatives_wildcards_and_patches() {
    let tags = ["1.4.0", "1.4.7", "1.5.0", "2.0.0", "3.1.0", "3.2.0"];
    let of = |range| fits(&Follow::semver(range).unwrap(), &tags);
    assert_eq!(of("~1.4 || >=3 <3.2"), ["1.4.0", "1.4.7", "3.1.0"]);
    assert_eq!(of("1.4.x"), ["1.4.0", "1.4.7"]);
    assert_eq!(of("1.* || =3.2.0"), ["1.4.0", "1.4.7", "1.5.0", "3.2.0"]);
    assert_eq!(of("*").len(), 6);
}

#[test]
fn a_pre_release_is_followed_only_where_the_range_names_one() {
    let tags = ["1.4.0", "1.5.0-rc.1", "1.5.0-rc.2", "1.6.0-rc.1"];
    let of = |range| fits(&Follow::semver(range).unwrap(), &tags);
    assert_eq!(of(">=1.4 <2"), ["1.4.0"]);
    assert_eq!(of(">=1.5.0-rc.1 <2"), ["1.5.0-rc.1", "1.5.0-rc.2"]);
}

#[test]
fn a_range_that_is_not_clear_is_refused_with_what_to_write() {
    for (range, what) in [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("1.4", "`1.4` alone is not clear"),
        (">=1.4 2", "`2` alone is not clear"),
        ("1.2 - 1.4", "`1.2` alone"),
        (">=1.2 - <1.4", "`A - B` is not understood"),
        (">=", "a version is missing"),
        (">=1 ||", "a version is missing"),
        (">=one", "unexpected character"),
        ("newest", "unexpected character"),
        (">=1.4.0.1", "expected comma after patch version number"),
        ("=>1.4", "unexpected"),
        (">=99999999999999999999", "value of major version number exceeds"),
    ] {
        let error = Follow::semver(range).unwrap_err();
        assert!(error.what.contains(what), "{range}: {error:?}");
        assert!(!error.hint.is_empty());
    }
    assert!(Follow::semver(&format!(">=1{}", " ".repeat(300))).unwrap_err().what.contains("longer than 256"));
}

#[test]
fn an_expression_is_for_the_whole_tag_and_its_first_group_is_what_counts() {
    let tags = ["main-abc-9", "main-ff0-10", "main-0-0011", "xmain-1-12", "main-1-12x", "main-1-", "dev-1-99"];
    let policy = Follow::regex("main-[0-9a-f]+-([0-9]+)", TagOrder::Numeric).unwrap();
    assert_eq!(fits(&policy, &tags), ["main-abc-9", "main-ff0-10", "main-0-0011"]);
    let policy = Follow::regex("main-[0-9a-f]+-([0-9]+)", TagOrder::Alphabetical).unwrap();
    assert_eq!(fits(&policy, &tags), ["main-0-0011", "main-ff0-10", "main-abc-9"]);
    let policy = Follow::regex("a|main-1-12", TagOrder::Alphabetical).unwrap();
    assert_eq!(fits(&policy, &["xa", "a", "ab", "main-1-12", "main-1-12x"]), ["a", "main-1-12"]);
}

#[test]
fn numbers_are_compared_however_long_they_are() {
    let policy = Follow::regex("([0-9]+)", TagOrder::Numeric).unwrap();
    let (long, longer) = ("9".repeat(100), format!("1{}", "0".repeat(100)));
    assert_eq!(fits(&policy, &[&longer, "2", "10", &long, "0"]), ["0", "2", "10", &long, &longer]);
    assert_eq!(policy.fit(&seen("007")), policy.fit(&seen("7")));
}

#[test]
fn what_cannot_be_ordered_says_so() {
    let numeric = Follow::regex("b-(.+)", TagOrder::Numeric).unwrap();
    assert_eq!((numeric.fit(&seen("b-x")), numeric.fit(&seen("c-1"))), (Fit::Unordered, Fit::No));
    let skipped = Follow::regex("b(-[0-9]+)?", TagOrder::Numeric).unwrap();
    assert_eq!(skipped.fit(&seen("b")), Fit::Unordered);
    let newest = Follow::regex("b-.*", TagOrder::Newest).unwrap();
    assert_eq!(newest.fit(&seen("b-1")), Fit::Unordered);
    let dated = TagSeen { pushed_at: Some(Timestamp::UNIX_EPOCH), ..seen("b-1") };
    assert_eq!(newest.fit(&dated), Fit::At(Place::At(Timestamp::UNIX_EPOCH)));
}

#[test]
fn an_expression_that_is_wrong_or_too_large_is_refused_at_once() {
    for (pattern, what) in [
        ("", "it is empty"),
        ("main-(", "unclosed group"),
        ("a)|(b", "unopened group"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        ("((a{0,1000}){0,1000}){0,1000}", "too large"),
        (r"\w{1,100}{1,100}{1,100}", "too large"),
        (&format!("{}a{}", "(".repeat(100), ")".repeat(100)), "nest"),
        ("(?x)a # all of it", "ends in a comment"),
    ] {
        let error = Follow::regex(pattern, TagOrder::Numeric).unwrap_err();
        assert!(error.what.contains(what), "{pattern}: {error:?}");
    }
    assert!(Follow::regex(&"a".repeat(300), TagOrder::Newest).unwrap_err().what.contains("longer than 256"));
}
