//! `registries:` of `holdfast.yaml`, and what a host's name alone says.

use std::path::PathBuf;

/// What this machine's settings say about one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRule {
    /// As image names write it: `docker.io`, `localhost:4566`.
    pub host: String,
    /// None: by the host's name.
    pub kind: Option<Kind>,
    /// Of an ECR whose name does not tell.
    pub region: Option<String>,
    /// None: anonymous, and ECR by the AWS credentials.
    pub auth: Option<Auth>,
}

/// How a registry lets people in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon ECR: a password from `ecr:GetAuthorizationToken`.
    Ecr,
    /// Any other registry of the distribution specification.
    Oci,
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `auths` of a docker `config.json`. Credential helpers are not run.
    DockerConfig(PathBuf),
}

/// The way in at one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Anonymous,
    DockerConfig(PathBuf),
    Ecr { region: Option<String> },
}

/// The way in at `host`. What is written wins over what the name says.
pub(super) fn way(rules: &[RegistryRule], host: &str) -> Way {
    let rule = rules.iter().find(|rule| same_host(&rule.host, host));
    let named = ecr_region(host);
    let written_region = rule.and_then(|rule| rule.region.clone());
    match rule {
        Some(RegistryRule { kind: Some(Kind::Ecr), .. }) => Way::Ecr { region: written_region.or(named) },
        Some(RegistryRule { auth: Some(Auth::DockerConfig(path)), .. }) => Way::DockerConfig(path.clone()),
        Some(RegistryRule { kind: Some(Kind::Oci), .. }) => Way::Anonymous,
        Some(RegistryRule { kind: None, auth: None, .. }) | None => match named {
            Some(region) => Way::Ecr { region: Some(written_region.unwrap_or(region)) },
            None => Way::Anonymous,
        },
    }
}

/// Whether both are names of one registry; Docker Hub has several.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

/// The region in `<account>.dkr.ecr.<region>.amazonaws.com` (also `ecr-fips` and `.cn`); none: no such name.
fn ecr_region(host: &str) -> Option<String> {
    let rest = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let mut parts = rest.split('.');
    let account = parts.next()?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let service = (parts.next()?, parts.next()?);
    let region = parts.next()?;
    let known = is_account && matches!(service, ("dkr", "ecr" | "ecr-fips")) && parts.next().is_none();
    (known && !region.is_empty()).then(|| region.to_owned())
}

/// Where requests for `host` go: `https://registry-1.docker.io`, `http://localhost:5000`.
pub(super) fn base(host: &str) -> String {
    let host = if canonical(host) == "docker.io" { "registry-1.docker.io" } else { host };
    let scheme = if is_loopback(host) { "http" } else { "https" };
    format!("{scheme}://{host}")
}

/// Whether `host` is this machine: then plain HTTP is what it speaks, as the engine assumes too.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, kind: Option<Kind>, region: Option<&str>, auth: Option<&str>) -> RegistryRule {
        RegistryRule {
            host: host.to_owned(),
            kind,
            region: region.map(str::to_owned),
            auth: auth.map(|path| Auth::DockerConfig(path.into())),
        }
    }

    const ECR: &str = "533267282498.dkr.ecr.ap-northeast-2.amazonaws.com";

    #[test]
    fn an_ecr_is_known_by_its_name() {
        for (host, region) in [
            (ECR, Some("ap-northeast-2")),
            ("533267282498.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("533267282498.dkr.ecr-fips.us-east-1.amazonaws.com", Some("us-east-1")),
            ("53326728249.dkr.ecr.us-east-1.amazonaws.com", None),
            ("533267282498.dkr.s3.us-east-1.amazonaws.com", None),
            ("533267282498.dkr.ecr.us-east-1.amazonaws.com.evil.example", None),
            ("533267282498.dkr.ecr.us-east-1.extra.amazonaws.com", None),
            ("public.ecr.aws", None),
        ] {
            assert_eq!(ecr_region(host).as_deref(), region, "{host}");
        }
    }

    #[test]
    fn what_is_written_wins_over_the_name() {
        let ecr = |region: Option<&str>| Way::Ecr { region: region.map(str::to_owned) };
        let rules = [
            rule("localhost:4566", Some(Kind::Ecr), Some("eu-west-1"), None),
            rule("index.docker.io", None, None, Some("/c.json")),
            rule("oci.example", Some(Kind::Oci), None, Some("/d.json")),
            rule("mirror.example", Some(Kind::Ecr), None, None),
        ];
        assert_eq!(way(&rules, "localhost:4566"), ecr(Some("eu-west-1")));
        assert_eq!(way(&rules, "docker.io"), Way::DockerConfig("/c.json".into()));
        assert_eq!(way(&rules, "oci.example"), Way::DockerConfig("/d.json".into()));
        assert_eq!(way(&rules, "mirror.example"), ecr(None));
        assert_eq!(way(&rules, ECR), ecr(Some("ap-northeast-2")));
        assert_eq!(way(&rules, "ghcr.io"), Way::Anonymous);
        assert_eq!(way(&[rule(ECR, None, Some("us-east-1"), None)], ECR), ecr(Some("us-east-1")));
        assert_eq!(way(&[rule(ECR, Some(Kind::Oci), None, None)], ECR), Way::Anonymous);
        assert_eq!(way(&[rule(ECR, None, None, Some("/e.json"))], ECR), Way::DockerConfig("/e.json".into()));
    }

    #[test]
    fn only_this_machine_is_asked_in_plain_text() {
        for (host, url) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("127.0.0.1.example", "https://127.0.0.1.example"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000"),
            ("ghcr.io", "https://ghcr.io"),
        ] {
            assert_eq!(base(host), url);
        }
    }
}
