//! Trees that no git makes by itself: names that lead elsewhere, odd modes, names that stand twice.

use std::fs;

use holdfast::ports::Source as _;

use crate::bed::{Bed, accepted, rejected, service, tags, unreadable};

struct Made {
    bed: Bed,
    good: String,
}

impl Made {
    async fn new() -> Self {
        let (bed, good) = Bed::published();
        accepted(bed.source().read().await);
        Self { bed, good }
    }

    fn blob(&self, text: impl AsRef<[u8]>) -> String {
        self.bed.git_reading(&["hash-object", "-w", "--stdin"], text.as_ref())
    }

    /// An entry as it stands in a tree.
    fn entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
        let id: Vec<u8> =
            (0..id.len() / 2).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect();
        [mode.as_bytes(), b" ", name, b"\0", &id].concat()
    }

    fn tree(&self, raw: &[u8]) -> String {
        self.bed.git_reading(&["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], raw)
    }

    /// Puts a commit whose `prod` is these bytes onto the branch, past every check of a push.
    fn publish(&self, prod: &[u8]) -> String {
        let prod = self.tree(prod);
        let root = self.tree(&Self::entry("40000", b"prod", &prod));
        self.publish_root(&root)
    }

    fn publish_root(&self, root: &str) -> String {
        let id = self.bed.git(&["commit-tree", root, "-p", &self.good, "-m", "by hand"]);
        // A push would look at it: the objects are put there as they are.
        let (from, to) = (self.bed.checkout().join(".git/objects"), self.bed.server().join("objects"));
        for folder in fs::read_dir(from).unwrap().flatten().filter(|it| it.file_name().len() == 2) {
            fs::create_dir_all(to.join(folder.file_name())).unwrap();
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                let target = to.join(folder.file_name()).join(file.file_name());
                if !target.exists() {
                    fs::copy(file.path(), target).unwrap();
                }
            }
        }
        fs::write(self.bed.server().join("refs/heads/main"), format!("{id}\n")).unwrap();
        id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_modes_that_no_file_has_are_refused() {
    let made = Made::new().await;
    let blob = made.blob(service("api", "2"));
    let folder = made.tree(&Made::entry("100644", b"x.yaml", &blob));
    let commit = made.good.clone();
    let source = made.bed.source();
    let mut said = String::new();
    for (mode, name, id) in [
        ("100644", b"../../b.yaml".as_slice(), &blob),
        ("100644", b"a/../../../b.yaml", &blob),
        ("100644", b"/etc/b.yaml", &blob),
        ("100644", b"b\\c.yaml", &blob),
        ("100644", b"b\nc.yaml", &blob),
        ("100644", b"b\x1b[31m.yaml", &blob),
        ("100644", b"b\xff\xfe.yaml", &blob),
        ("120000", b"b.yaml", &blob),
        ("160000", b"b.yaml", &commit),
        ("40000", b"b.yaml", &folder),
        ("10000", b"b.yaml", &blob),
    ] {
        let good = Made::entry("100644", b"api.yaml", &made.blob(service("api", "1")));
        made.publish(&[good, Made::entry(mode, name, id)].concat());
        let why = rejected(source.read().await);
        said += &format!("{mode} {}: {}\n", name.escape_ascii(), made.bed.plain(&why));
        made.bed.assert_in_force_alone(&made.good).await;
    }
    insta::assert_snapshot!(said);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_itself_reads_as_a_plain_file_is_one() {
    // 100664 was written by git before 2005-07; git shows and checks it out as 100644.
    let made = Made::new().await;
    let blob = made.blob(service("api", "2"));
    for mode in ["100664", "100755", "0100644"] {
        let id = made.publish(&Made::entry(mode, b"api.yaml", &blob));
        let state = accepted(made.bed.source().read().await);
        assert_eq!((state.revision.0.clone(), tags(&state).as_str()), (id, "api 2"), "{mode}");
        made.bed.at_server(&["update-ref", "refs/heads/main", &made.good]);
        fs::remove_file(made.bed.record()).unwrap();
        accepted(made.bed.source().read().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_stands_twice_is_refused() {
    let made = Made::new().await;
    let (one, two) = (made.blob(service("api", "2")), made.blob(service("web", "3")));
    made.publish(&[Made::entry("100644", b"a.yaml", &one), Made::entry("100644", b"a.yaml", &two)].concat());
    let why = rejected(made.bed.source().read().await);
    assert!(why.contains("prod/a.yaml") && why.contains("twice"), "{why}");
    // The folder itself.
    let tree = made.tree(&Made::entry("100644", b"a.yaml", &one));
    let empty = made.tree(&Made::entry("100644", b"b.yaml", &two));
    let root = [Made::entry("40000", b"prod", &tree), Made::entry("40000", b"prod", &empty)].concat();
    made.publish_root(&made.tree(&root));
    let why = rejected(made.bed.source().read().await);
    assert!(why.contains("prod"), "{why}");
    made.bed.assert_in_force_alone(&made.good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_or_no_desired_state_is_left_out() {
    let made = Made::new().await;
    let (blob, bad) = (made.blob(service("api", "2")), made.blob("]"));
    let git = made.tree(&Made::entry("100644", b"config", &bad));
    let all = [
        Made::entry("40000", b".git", &git),
        Made::entry("100644", b".gitmodules", &bad),
        Made::entry("120000", b".x.yaml", &bad),
        Made::entry("100644", b"api.yaml", &blob),
        Made::entry("160000", b"sub", &made.good),
        Made::entry("120000", b"task.json", &bad),
        Made::entry("40000", b"..", &git),
    ];
    let id = made.publish(&all.concat());
    let state = accepted(made.bed.source().read().await);
    assert_eq!((state.revision.0.clone(), tags(&state).as_str()), (id, "api 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_none_is_unreadable_and_the_next_commit_is_read() {
    let made = Made::new().await;
    let source = made.bed.source();
    for raw in [b"100644 a.yaml\0too short".as_slice(), b"rubbish", b"99999999 a.yaml\0aaaaaaaaaaaaaaaaaaaa"] {
        made.publish(raw);
        let why = unreadable(source.read().await);
        assert!(why.starts_with("git "), "{why}");
        made.bed.assert_in_force_alone(&made.good).await;
    }
    let blob = made.blob(service("api", "2"));
    let id = made.publish(&Made::entry("100644", b"api.yaml", &blob));
    assert_eq!(accepted(source.read().await).revision.0, id);
}
