//! Repositories, refs, settings and an environment that want a program run or a file read: nothing runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use holdfast::git::names;
use holdfast::ports::Source as _;

use crate::bed::{Bed, accepted, rejected, service, tags, unreadable};
use crate::program::Program;

/// A program that leaves a mark, whatever it is called with.
struct Evil {
    program: PathBuf,
    marks: PathBuf,
}

impl Evil {
    fn new(bed: &Bed) -> Self {
        let (program, marks) = (bed.path("evil"), bed.path("marks"));
        fs::create_dir_all(&marks).unwrap();
        let it = Self { program, marks };
        it.write(&it.program);
        it
    }

    fn write(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\ntouch {}/$(basename $0).$$\ncat\n", self.marks.display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn line(&self) -> String {
        self.program.display().to_string()
    }

    /// What ran until now was somebody else's: the server's own hooks at a push.
    fn forget(&self) {
        for mark in fs::read_dir(&self.marks).unwrap().flatten() {
            fs::remove_file(mark.path()).unwrap();
        }
    }

    fn assert_nothing_ran(&self) {
        let marks: Vec<_> = fs::read_dir(&self.marks).unwrap().flatten().map(|it| it.file_name()).collect();
        assert!(marks.is_empty(), "{marks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_a_branch_or_a_folder_that_is_an_option_or_a_command_reaches_no_git() {
    let (mut bed, _) = Bed::published();
    let evil = Evil::new(&bed);
    let touch = |text: &str| text.replace("EVIL", &evil.line());
    // Past the checks of the settings: git itself must not take them for options or commands either.
    for url in [
        "--upload-pack=EVIL",
        "-uEVIL",
        "ext::EVIL",
        "ext::sh -c EVIL% x",
        "fd::7",
        "ssh://-oProxyCommand=EVIL/x",
        "-oProxyCommand=EVIL:x",
        "file:///x\nEVIL",
        "https://-u=EVIL/x",
    ] {
        bed.settings.url = touch(url);
        assert!(names::url(&bed.settings.url, &bed.settings.access.allow).is_err(), "{url}");
        let why = unreadable(bed.source().read().await);
        println!("{url}: {}", bed.plain(&why));
    }
    let mut it = Bed::published().0;
    for branch in ["--upload-pack=EVIL", "-x", "main\nEVIL", "../../main", "main:refs/heads/x", "*", "ma*", "@{-1}", ""]
    {
        assert_eq!(names::branch(branch), None, "{branch}");
        it.settings.branch = touch(branch);
        let update = it.source().read().await;
        println!("{branch:?}");
        assert!(!matches!(update, holdfast::ports::SourceUpdate::Accepted(_)), "{branch}: {update:?}");
    }
    it.settings.branch = "main".to_owned();
    for path in ["--help", "-r", "..", "../checkout", "/etc", ":(top)prod", ":/prod", "p*", "pro?", "prod\nx"] {
        it.settings.path = path.to_owned();
        let update = it.source().read().await;
        println!("{path:?}");
        assert!(!matches!(update, holdfast::ports::SourceUpdate::Accepted(_)), "{path}: {update:?}");
    }
    evil.assert_nothing_ran();
}

#[test]
fn on_the_command_line_they_are_refused_with_what_is_right() {
    let bed = Bed::published().0;
    let evil = Evil::new(&bed);
    let program = Program::new(&bed);
    for (flag, value) in [
        ("--git", format!("ext::sh -c {}", evil.line())),
        ("--git", format!("--upload-pack={}", evil.line())),
        ("--git", "https://host/a\nb".to_owned()),
        ("--branch", "-x".to_owned()),
        ("--branch", "main\nx".to_owned()),
        ("--path", "../x".to_owned()),
        ("--path", "a/.git".to_owned()),
    ] {
        let ended = program.ends(&["run", "--sandbox", "--once", &format!("{flag}={value}")]);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{flag} {value}");
        assert!(said.contains("expected") || said.contains("invalid value"), "{flag} {value}: {said}");
    }
    evil.assert_nothing_ran();
}

/// A repository with everything in it that git could run or follow.
fn booby_trapped() -> (Bed, Evil) {
    let bed = Bed::new();
    let evil = Evil::new(&bed);
    bed.git(&["config", "filter.evil.clean", "cat"]);
    bed.write(
        ".gitattributes",
        "* filter=evil export-subst ident eol=crlf working-tree-encoding=UTF-16\n*.yaml diff=evil merge=evil text\n",
    );
    bed.write(
        ".gitmodules",
        format!("[submodule \"x\"]\n\tpath = prod/x\n\turl = ext::{}\n\tupdate = !{}\n", evil.line(), evil.line()),
    );
    bed.git(&["config", "core.attributesFile", "/dev/null"]);
    fs::write(bed.checkout().join(".git/info/attributes"), "* !filter !working-tree-encoding !eol !text\n").unwrap();
    let text = service("api", "1") + "# $Format:%H$ $Id$\n";
    bed.write("prod/api.yaml", &text);
    bed.write("prod/hooks/post-checkout", "#!/bin/sh\n");
    // What a mirror would be taken for when somebody looked into it.
    for name in ["HEAD", "config", "objects/x", "refs/x", "hooks/reference-transaction"] {
        bed.write(name, format!("[core]\n\tfsmonitor = {}\n", evil.line()));
    }
    bed.publish_all("evil");
    // The repository's own configuration and hooks, as far as it is on this host.
    for hook in ["post-update", "reference-transaction", "post-checkout", "pre-auto-gc", "post-index-change"] {
        evil.write(&bed.server().join("hooks").join(hook));
    }
    for (key, value) in [
        ("uploadpack.packObjectsHook", evil.line()),
        ("core.fsmonitor", evil.line()),
        ("core.sshCommand", evil.line()),
        ("core.alternateRefsCommand", evil.line()),
    ] {
        bed.at_server(&["config", key, &value]);
    }
    (bed, evil)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_repository_is_run_followed_or_converted() {
    let (bed, evil) = booby_trapped();
    // A replacement of the commit, and of the file.
    let (old, blob) = (bed.head(), bed.git(&["rev-parse", "HEAD:prod/api.yaml"]));
    bed.write("prod/api.yaml", service("api", "replaced"));
    let other = bed.commit("replaced");
    let other_blob = bed.git(&["rev-parse", "HEAD:prod/api.yaml"]);
    bed.git(&[
        "push",
        "--quiet",
        "origin",
        &format!("{other}:refs/replace/{old}"),
        &format!("{other}:refs/x/refs/heads/main"),
    ]);
    bed.git(&["update-ref", &format!("refs/replace/{blob}"), &other_blob]);
    bed.git(&["push", "--quiet", "origin", &format!("refs/replace/{blob}")]);
    let source = bed.source();
    evil.forget();
    let state = accepted(source.read().await);
    evil.assert_nothing_ran();
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (old.as_str(), "api 1"));
    // Nor in the mirror itself, where the replacement is known.
    let mirror = bed.mirror().display().to_string();
    bed.run(&["-C", &mirror, "fetch", "--quiet", &bed.server().display().to_string(), "refs/x/refs/heads/main"], b"");
    bed.run(&["-C", &mirror, "update-ref", &format!("refs/replace/{old}"), &other], b"");
    bed.run(&["-C", &mirror, "update-ref", &format!("refs/replace/{blob}"), &other_blob], b"");
    fs::write(bed.mirror().join("mark"), "").unwrap();
    fs::remove_file(bed.record()).unwrap();
    assert_eq!(tags(&accepted(bed.source().read().await)), "api 1");
    for hook in ["post-update", "reference-transaction", "pre-auto-gc", "post-checkout"] {
        evil.write(&bed.mirror().join("hooks").join(hook));
    }
    bed.git(&["reset", "--quiet", "--hard", &old]);
    let next = bed.publish("2");
    evil.forget();
    let mut watching = crate::bed::Watching::new(&bed.source());
    assert_eq!(tags(&*watching.until_accepted(&next).await), "api 2");
    evil.assert_nothing_ran();
    // The clean-up behind the report too.
    let third = bed.publish("3");
    evil.forget();
    assert_eq!(accepted(source.read().await).revision.0, third);
    let record = fs::read_to_string(bed.record()).unwrap();
    assert!(!record.contains('\r') && !record.contains("replaced"));
    assert!(bed.mirror().join("mark").exists(), "it was not made anew");
    evil.assert_nothing_ran();
}

#[test]
fn an_environment_that_leads_elsewhere_is_not_followed() {
    let (bed, id) = Bed::published();
    let evil = Evil::new(&bed);
    let mut program = Program::new(&bed);
    for (name, value) in [
        ("GIT_DIR", bed.path("checkout/.git").display().to_string()),
        ("GIT_WORK_TREE", "/".to_owned()),
        ("GIT_COMMON_DIR", bed.path("checkout/.git").display().to_string()),
        ("GIT_OBJECT_DIRECTORY", bed.path("elsewhere").display().to_string()),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", bed.path("checkout/.git/objects").display().to_string()),
        ("GIT_INDEX_FILE", bed.path("index").display().to_string()),
        ("GIT_NAMESPACE", "evil".to_owned()),
        ("GIT_EXEC_PATH", bed.path("exec").display().to_string()),
        ("GIT_TEMPLATE_DIR", bed.path("template").display().to_string()),
        ("GIT_SHALLOW_FILE", "/dev/null".to_owned()),
        ("GIT_REPLACE_REF_BASE", "refs/x/".to_owned()),
        ("GIT_ASKPASS", evil.line()),
        ("SSH_ASKPASS", evil.line()),
        ("GIT_EXTERNAL_DIFF", evil.line()),
        ("GIT_PROXY_COMMAND", evil.line()),
        ("GIT_PAGER", evil.line()),
        ("GIT_EDITOR", evil.line()),
        ("GIT_TRACE", bed.path("marks/trace").display().to_string()),
        ("GIT_TRACE2_EVENT", bed.path("marks/trace2").display().to_string()),
        ("GIT_TRACE_CURL", bed.path("marks/curl").display().to_string()),
        ("GIT_CONFIG_PARAMETERS", format!("'core.fsmonitor={}'", evil.line())),
        ("GIT_CONFIG_COUNT", "2".to_owned()),
        ("GIT_CONFIG_KEY_0", "core.fsmonitor".to_owned()),
        ("GIT_CONFIG_VALUE_0", evil.line()),
        ("GIT_CONFIG_KEY_1", format!("url.{}.insteadOf", bed.path("elsewhere").display())),
        ("GIT_CONFIG_VALUE_1", "file://".to_owned()),
        ("GIT_CONFIG", bed.path("config").display().to_string()),
        ("GIT_ALLOW_PROTOCOL", "ext".to_owned()),
        ("GIT_PROTOCOL_FROM_USER", "1".to_owned()),
        ("GIT_DEFAULT_HASH", "sha256".to_owned()),
        ("GIT_LITERAL_PATHSPECS", "0".to_owned()),
        ("GIT_ICASE_PATHSPECS", "1".to_owned()),
        ("GIT_CEILING_DIRECTORIES", "/".to_owned()),
        ("GIT_ATTR_SOURCE", "HEAD".to_owned()),
        ("LANG", "ko_KR.UTF-8".to_owned()),
        ("LANGUAGE", "ko".to_owned()),
    ] {
        program.env(name, value);
    }
    for name in ["git", "git-remote-https", "git-fetch", "git-upload-pack"] {
        evil.write(&bed.path("exec").join(name));
    }
    evil.write(&bed.path("template/hooks/reference-transaction"));
    let before = crate::bed::everything(&bed.path("checkout/.git"));
    program.start();
    program.until_in_force(&id);
    let second = bed.publish("2");
    program.until_in_force(&second);
    // Words are still those of the C locale: the hint is found.
    fs::rename(bed.server(), bed.path("away")).unwrap();
    let status = program.until("the outage", |it| it["source"]["error"].is_string());
    assert!(status["source"]["error"].as_str().unwrap().contains("hint: is the address right?"), "{status}");
    assert!(!bed.path("elsewhere").exists());
    assert!(!bed.path("checkout/.git/refs/holdfast").exists() && !before.is_empty());
    drop(program);
    evil.assert_nothing_ran();
}

#[test]
fn a_users_configuration_starts_no_program_for_a_repository() {
    let (bed, id) = Bed::published();
    let evil = Evil::new(&bed);
    let config = bed.path("gitconfig");
    let it = evil.line();
    fs::write(
        &config,
        format!(
            "[core]\n\tfsmonitor = {it}\n\tsshCommand = {it}\n\thooksPath = {hooks}\n\taskPass = {it}\n\tpager = {it}\n\
             \teditor = {it}\n\tgitProxy = {it}\n\talternateRefsCommand = {it}\n[gc]\n\tauto = 1\n[maintenance]\n\tauto = true\n\
             [fetch]\n\trecurseSubmodules = true\n\twriteCommitGraph = true\n[protocol]\n\tallow = always\n\
             [protocol \"ext\"]\n\tallow = always\n[init]\n\ttemplateDir = {template}\n[log]\n\tshowSignature = true\n\
             [gpg]\n\tprogram = {it}\n[alias]\n\tfetch = !{it}\n\tls-remote = !{it}\n\tcat-file = !{it}\n\
             [core]\n\tattributesFile = {attributes}\n[filter \"evil\"]\n\tsmudge = {it}\n\tclean = {it}\n",
            hooks = bed.path("hooks").display(),
            template = bed.path("template").display(),
            attributes = bed.path("attributes").display(),
        ),
    )
    .unwrap();
    fs::write(bed.path("attributes"), "* filter=evil\n").unwrap();
    for hook in ["reference-transaction", "post-checkout", "pre-auto-gc", "post-update"] {
        evil.write(&bed.path("hooks").join(hook));
        evil.write(&bed.path("template/hooks").join(hook));
    }
    let mut program = Program::new(&bed);
    program.env("GIT_CONFIG_GLOBAL", &config);
    program.start();
    program.until_in_force(&id);
    let second = bed.publish("2");
    program.until_in_force(&second);
    drop(program);
    evil.assert_nothing_ran();
    // Not for an address that asks for SSH either, but for the ssh of the host's own choice.
    let text = fs::read_to_string(&config).unwrap().replace(&format!("\tsshCommand = {it}\n"), "");
    fs::write(&config, text).unwrap();
    let mut program = Program::new(&bed);
    program.env("GIT_CONFIG_GLOBAL", &config);
    program.url("ssh://127.0.0.1:1/x");
    let ended = program.ends(&["run", "--sandbox", "--once"]);
    assert!(!ended.status.success());
    evil.assert_nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_no_commit_is_refused_or_unreadable() {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    let blob = bed.git(&["rev-parse", "HEAD:prod/api.yaml"]);
    let tree = bed.git(&["rev-parse", "HEAD^{tree}"]);
    bed.git(&["tag", "-a", "-m", "x", "v1"]);
    let tag = bed.git(&["rev-parse", "v1"]);
    bed.git(&["push", "--quiet", "origin", "v1"]);
    for id in [&blob, &tree, &tag] {
        fs::write(bed.server().join("refs/heads/main"), format!("{id}\n")).unwrap();
        let update = source.read().await;
        println!("{update:?}");
        bed.assert_in_force_alone(&good).await;
    }
    // A branch that is another one's name.
    fs::write(bed.server().join("refs/heads/main"), "ref: refs/heads/other\n").unwrap();
    rejected(source.read().await);
    bed.git(&["push", "--quiet", "origin", "HEAD:refs/heads/other"]);
    assert_eq!(accepted(source.read().await).revision.0, good);
}
