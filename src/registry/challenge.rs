//! `WWW-Authenticate` (RFC 9110, 11.6.1): how a registry wants to be asked.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user name and a password.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where tokens are given out.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what; none: to be made up.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in `headers`: a token before a password.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut found = None;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            for (scheme, parameters) in header.to_str().map(parse).unwrap_or_default() {
                let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
                match (scheme.as_str(), value("realm")) {
                    ("bearer", Some(realm)) => {
                        return Some(Self::Bearer { realm, service: value("service"), scope: value("scope") });
                    }
                    ("basic", _) => found = Some(Self::Basic),
                    _ => {}
                }
            }
        }
        found
    }
}

type Parameters = Vec<(String, String)>;

/// Every challenge of one header: scheme and parameters, names in lower case.
fn parse(text: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word_end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if word_end == 0 {
            return challenges;
        }
        let (word, after) = rest.split_at(word_end);
        let word = word.to_ascii_lowercase();
        let Some(value) = after.trim_start().strip_prefix('=') else {
            challenges.push((word, Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = parameter(value.trim_start());
        if let Some((_, parameters)) = challenges.last_mut() {
            parameters.push((word, value));
        }
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        Challenge::read(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn what_registries_send_is_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            read(&[hub]),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(read(&[r#"Basic realm="x, y",service="ecr.amazonaws.com""#]), Some(Challenge::Basic));
        assert_eq!(read(&["basic"]), Some(Challenge::Basic));
        assert_eq!(read(&[r#"Basic realm="a", BEARER Realm = "b\"c""#]), bearer("b\"c", None, None));
        assert_eq!(read(&["Basic realm=a", "Bearer realm=b,service=c"]), bearer("b", Some("c"), None));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for line in ["", "Negotiate", "Bearer", r#"Bearer service="x""#, "=", ",,,", "a=b"] {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&[]), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
