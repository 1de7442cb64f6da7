//! Names that reach git's command line, checked: addresses, branches, folders, object ids.

use std::net::Ipv6Addr;

use super::Protocol;

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadUrl {
    /// What would be right.
    pub expected: &'static str,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

/// What a branch may be called.
pub const BRANCH: &str = "a branch like `main` or `env/prod`, of letters, digits and `._-+#=@/`";
/// What a folder may be called.
pub const FOLDER: &str = "a folder inside the repository like `desired-state/prod`, without `..`";

/// Tokens of the hosts that mark theirs, and how long the name of a user is at most: none of them marks all.
const TOKENS: [&str; 9] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "ATBB", "ATCTT"];
const LONGEST_USER: usize = 32;

const ADDRESS: &str = "`https://HOST/PATH`, `ssh://HOST/PATH` or `git@HOST:PATH`";

/// Checks an address. Only HTTPS and SSH are spoken; `allow` adds others.
///
/// # Errors
/// With what would be right.
pub fn url(text: &str, allow: &[Protocol]) -> Result<(), BadUrl> {
    let bad = |hint| Err(BadUrl { expected: ADDRESS, hint });
    // A leading `-` would be an option, `ext::` a command; neither is an address of any kind below.
    if text.is_empty() || text.starts_with('-') || text.contains(|c: char| !c.is_ascii_graphic()) {
        return bad(None);
    }
    match text.split_once("://") {
        Some(("https", rest)) => over_http(rest),
        Some(("ssh", rest)) => host_and_path(rest),
        Some(("http", rest)) if allow.contains(&Protocol::Http) => over_http(rest),
        Some(("http", _)) => {
            bad(Some("take https, or say `allow: [http]`: then anybody on the way can read and change it"))
        }
        Some(("file", rest)) if allow.contains(&Protocol::File) && rest.starts_with('/') => Ok(()),
        Some(("file", _)) => bad(Some("say `allow: [file]` to read a repository of this host")),
        Some(_) => bad(None),
        None if text.starts_with('/') && allow.contains(&Protocol::File) => Ok(()),
        None if text.starts_with('/') => bad(Some("say `allow: [file]` to read a repository of this host")),
        None => match short(text) {
            Some(path) if !path.is_empty() && !path.starts_with(['-', ':']) => Ok(()),
            _ => bad(None),
        },
    }
}

/// The path of `HOST:PATH` or `[ADDRESS]:PATH`, either with `USER@` before it.
fn short(text: &str) -> Option<&str> {
    let Some((before, rest)) = text.split_once('[') else {
        let (host, path) = text.split_once(':')?;
        return is_host(host).then_some(path);
    };
    // ssh and git take more in brackets (`[HOST:PORT]`): nothing but an address is meant here.
    let (address, path) = rest.split_once("]:")?;
    let user = before.is_empty() || before.strip_suffix('@').is_some_and(is_plain);
    (user && address.parse::<Ipv6Addr>().is_ok()).then_some(path)
}

/// Like [`host_and_path`], but no token in place of a user: it would stand on the command line of git.
fn over_http(rest: &str) -> Result<(), BadUrl> {
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let is_token = user.len() > LONGEST_USER || TOKENS.iter().any(|mark| user.starts_with(mark));
    if is_token && !user.contains(':') {
        return Err(BadUrl {
            expected: ADDRESS,
            hint: Some("leave the token out of the address: `tokenFile` names it"),
        });
    }
    host_and_path(rest)
}

fn host_and_path(rest: &str) -> Result<(), BadUrl> {
    let bad = |hint| Err(BadUrl { expected: ADDRESS, hint });
    let Some((authority, path)) = rest.split_once('/') else { return bad(None) };
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    if user.contains(':') {
        return bad(Some("leave the password out of the address: `tokenFile` or a credential helper knows it"));
    }
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    if is_host(host) && !user.starts_with('-') && !path.is_empty() { Ok(()) } else { bad(None) }
}

/// `HOST` or `USER@HOST`, neither of which could be taken for an option by ssh.
fn is_host(text: &str) -> bool {
    match text.split_once('@') {
        Some((user, host)) => is_plain(user) && is_plain(host),
        None => is_plain(text),
    }
}

fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-:%+".contains(c))
}

/// The scheme, the host with its port but without a user, and the path of an address that [`url`] lets pass.
/// `git@host:path` is SSH; a path of this host has no scheme and stands in place of the host.
pub fn parts(text: &str) -> (&str, &str, &str) {
    let (scheme, (authority, path)) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.split_once('/').unwrap_or((rest, ""))),
        None if text.starts_with('/') => ("", (text, "")),
        None => {
            // The colons of an IPv6 host stand in brackets.
            let begin = text.find('@').map_or(0, |at| at + 1);
            let bracket = if text[begin..].starts_with('[') { text.find(']') } else { None };
            let host_end = bracket.unwrap_or(0);
            let colon = text[host_end..].find(':').map(|at| host_end + at);
            ("ssh", colon.map_or((text, ""), |at| (&text[..at], &text[at + 1..])))
        }
    };
    (scheme, authority.rsplit_once('@').map_or(authority, |(_, host)| host), path)
}

/// The scheme and the host of an address that has one, port included: `https://host:8443`.
pub fn host(text: &str) -> &str {
    let Some(begin) = text.find("://").map(|at| at + 3) else { return text };
    &text[..text[begin..].find('/').map_or(text.len(), |at| begin + at)]
}

/// `https://user:password@host/…` as it may be shown. Over HTTP the user goes too: hosts take a token in its place.
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, host)) => {
            if scheme.ends_with("http") || scheme.ends_with("https") {
                return format!("{scheme}://{host}{}", &rest[end..]);
            }
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{host}{}", &rest[end..])
        }
        None => text.to_owned(),
    }
}

/// Checks the name of a branch: `git check-ref-format --branch`, and only plain characters.
pub fn branch(text: &str) -> Option<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-', '+'])
            && !part.ends_with('.')
            && !part.ends_with(".lock")
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+#=@".contains(c))
    };
    // `@` alone is another name of HEAD.
    (text.len() <= 200 && text.split('/').all(plain) && !matches!(text, "HEAD" | "@")).then(|| text.to_owned())
}

/// Checks a folder or file inside the repository; the root is empty.
pub fn folder(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/');
    let text = text.strip_prefix("./").unwrap_or(text);
    if matches!(text, "" | ".") {
        return Some(String::new());
    }
    let plain = |part: &str| !matches!(part, "" | "." | ".." | ".git") && !part.contains(char::is_control);
    text.split('/').all(plain).then(|| text.to_owned())
}

/// Whether `text` is an object id in full (SHA-1 or SHA-256).
pub fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_ssh_are_addresses() {
        for good in [
            "https://github.com/acme/deploy.git",
            "https://git@github.com/acme/deploy",
            "https://localhost:8443/x",
            "ssh://git@host:2222/srv/x.git",
            "ssh://[::1]/x",
            "git@github.com:acme/deploy.git",
            "host:x",
            "[::1]:x",
            "git@[fd00::7]:acme/deploy.git",
            "https://x-access-token@host/x",
            "https://glenn@host/x",
        ] {
            assert_eq!(url(good, &[]), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "--upload-pack=x",
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "fd::17/x",
            "https://-x/y",
            "https:///y",
            "https://host",
            "https://user:secret@host/x",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x@host:y",
            "git@-host:y",
            "host:-x",
            "git://host/x",
            "ftp://host/x",
            "http://host/x",
            "file:///srv/x",
            "/srv/x",
            "../x",
            "x",
            "https://host/a\nb",
            "https://host/a b",
            "[::1]x",
            "[::1]:",
            "[::1]:-x",
            "[host]:x",
            "[host:22]:x",
            "[-oProxyCommand=x]:y",
            "-o@[::1]:x",
            "@[::1]:x",
            "a[::1]:x",
            "[::1%-x]:y",
            "https://ghp_canary@host/x",
            "https://github_pat_canary@host/x",
            "https://glpat-canary@host/x",
            "https://0123456789012345678901234567890123456789@host/x",
        ] {
            assert!(url(bad, &[]).is_err(), "{bad}");
        }
        for asked in ["file:///srv/x", "/srv/x", "http://host/x"] {
            assert_eq!(url(asked, &[Protocol::File, Protocol::Http]), Ok(()), "{asked}");
        }
        assert!(url("file://host/x", &[]).is_err());
    }

    #[test]
    fn a_token_in_place_of_a_user_belongs_into_a_file() {
        let bad = url("https://gho_canary@host/x", &[]).unwrap_err();
        assert!(bad.hint.unwrap().contains("`tokenFile`"), "{bad:?}");
        assert!(url("http://ghs_canary@host/x", &[Protocol::Http]).is_err());
        // Over SSH it is a user and nothing else.
        assert_eq!(url("ssh://a-user-whose-name-is-longer-than-others@host/x", &[]), Ok(()));
    }

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_path() {
        for (text, parts_of_it) in [
            ("https://u@h:8443/a/b.git", ("https", "h:8443", "a/b.git")),
            ("ssh://git@h:22/x", ("ssh", "h:22", "x")),
            ("git@h:x/y", ("ssh", "h", "x/y")),
            ("git@[::1]:x", ("ssh", "[::1]", "x")),
            ("h:a]:b", ("ssh", "h", "a]:b")),
            ("file:///srv/x", ("file", "", "srv/x")),
            ("/srv/a:b", ("", "/srv/a:b", "")),
        ] {
            assert_eq!(parts(text), parts_of_it, "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(without_password("https://u:secret@h/x"), "https://h/x");
        assert_eq!(without_password("https://ghp_secret@h/x"), "https://h/x");
        assert_eq!(without_password("ssh://git:secret@h/x"), "ssh://git@h/x");
        assert_eq!(without_password("https://h/u:x@y"), "https://h/u:x@y");
    }

    #[test]
    fn branches_are_plain() {
        for good in ["main", "env/prod", "release-1.2", "a_b+c", "env@prod", "@a", "a/@"] {
            assert_eq!(branch(good).as_deref(), Some(good));
        }
        for bad in [
            "", "-b", "a..b", "a//b", "/a", "a/", ".a", "a.lock", "a\nb", "a b", "a:b", "+a", "a@{1}", "*", "HEAD",
            "a^", "@", "a@{", "@{u}", "@{-1}",
        ] {
            assert_eq!(branch(bad), None, "{bad}");
        }
    }

    #[test]
    fn folders_stay_inside() {
        assert_eq!(folder("desired-state/prod/").as_deref(), Some("desired-state/prod"));
        assert_eq!(folder("./a").as_deref(), Some("a"));
        for root in ["", ".", "./"] {
            assert_eq!(folder(root).as_deref(), Some(""), "{root}");
        }
        for bad in ["/a", "../a", "a/../b", "a//b", "a/.git", "a\n", ".."] {
            assert_eq!(folder(bad), None, "{bad}");
        }
    }
}
